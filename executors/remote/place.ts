import type { Sentences } from "../../src/workspace.ts";
import type { RemoteCommands } from "./commands.ts";
import type { RemoteTools } from "./tools.ts";

/** Where a job's files are, as its commands see it. */
export interface RemotePlace {
  /** The checkout, absolute, as `commands` sees it. */
  readonly root: string;
  /** Beside the checkout, the job's own; on the same file system moving is cheap. Made where it is missing. */
  readonly tmpDir: string;
  readonly tools: RemoteTools;
}

export interface Packing {
  readonly commands: RemoteCommands;
  readonly place: RemotePlace;
  readonly warnings: Sentences;
  readonly signal: AbortSignal;
}
