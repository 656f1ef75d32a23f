/** How much may stay of what is kept between jobs, in bytes. `null`: any. */
export interface KeepBudgets {
  readonly images: number | null;
  readonly volumes: number | null;
  /** Directories for builds. */
  readonly builds: number | null;
  /** What must be free on their disk, in bytes or as a share of it. */
  readonly free: { readonly bytes: number } | { readonly share: number } | null;
}

/** One thing that is kept between jobs. */
export interface KeptThing {
  readonly kind: "image" | "volume" | "builds";
  readonly name: string;
  readonly bytes: number;
  /** `Date.now()` of its last use. */
  readonly usedAt: number;
}

/** A thing that goes. */
export interface Tidied extends KeptThing {
  /** Such as `Docker 27.1 at unix:///run/docker.sock`. */
  readonly where: string;
  readonly why: string;
  /** Why it is still there. */
  readonly problem?: string;
}
