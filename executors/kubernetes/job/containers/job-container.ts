import { z } from "zod";
import type { Argv } from "../../../../src/shell.ts";
import { type RemoteCommands, type RemotePty, type RemoteTools, storedTools } from "../../../remote/index.ts";

/** By which a later process opens a container again. */
export const knownContainer = z.strictObject({
  image: z.string(),
  memoryLimit: z.string(),
  tools: storedTools,
  hasHome: z.boolean(),
  hasEntrypoint: z.boolean(),
});
export type KnownContainer = z.output<typeof knownContainer>;

/** A container that runs, as scripts and file work use it. */
export interface JobContainer {
  /** `build`, `helper` */
  readonly name: string;
  readonly image: string;
  readonly tools: RemoteTools;
  readonly commands: RemoteCommands;
  /** Starts a program there on a pseudo-terminal. */
  openPty(argv: Argv, signal: AbortSignal): Promise<RemotePty>;
  /** The limit that the job or the entry sets; empty where neither does. */
  readonly memoryLimit: string;
  /** Why nothing more can run in it, or `null`. */
  lost(signal: AbortSignal): Promise<Error | null>;
  /** Resolves with the reason once nothing more can run in it. */
  whenLost(signal: AbortSignal): Promise<Error>;
  /** By which a later process opens it again. */
  readonly known: KnownContainer;
}

/** Whether neither of two containers may give its files to the other's user: a common group lets both change them. */
export function areApart(build: JobContainer, helper: JobContainer): boolean {
  return helper !== build && helper.tools.uid > 0 && helper.tools.uid !== build.tools.uid;
}
