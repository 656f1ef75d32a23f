/** Tells all who wait that something has changed. */
export interface Bell {
  ring(): void;
  /** Resolves at the next ring after this call. */
  next(): Promise<void>;
}

export function createBell(): Bell {
  let changed = Promise.withResolvers<void>();
  return {
    ring() {
      changed.resolve();
      changed = Promise.withResolvers<void>();
    },
    next: () => changed.promise,
  };
}
