export interface Case {
  /** The limit as docs/limits.md writes it, made from the constant in the code. */
  readonly bound: string;
  /**
   * Feeds one more than the limit allows.
   * @returns all that is said about it
   */
  beyond(): Promise<string>;
}

export function count(value: number, unit = ""): string {
  return `${value.toLocaleString("en-US")}${unit === "" ? "" : ` ${unit}`}`;
}

export function bytes(value: number): string {
  for (const [unit, size] of [
    ["GiB", 1024 ** 3],
    ["MiB", 1024 ** 2],
    ["KiB", 1024],
  ] as const) {
    if (value % size === 0) return `${value / size} ${unit}`;
  }
  return `${value} bytes`;
}

/** The error with which `work` fails. */
export async function refusal(work: () => unknown): Promise<string> {
  try {
    await work();
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  return "nothing was refused";
}
