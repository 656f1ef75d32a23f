import type { Environment } from "../../src/executor/environment.ts";
import type { Note } from "../../src/executor/prepare.ts";
import type { SshConnection } from "./connection/connection.ts";
import { createLink } from "./connection/link.ts";
import { createSshEnvironment, type SshEnvironmentOptions } from "./environment.ts";
import {
  type LeftCopy,
  openWorkingCopy,
  resumeWorkingCopy,
  type WorkingCopyOptions,
} from "./working-copy/working-copy.ts";

export type { SshChannel } from "./connection/channel.ts";
export { sshCommands } from "./connection/commands.ts";
export { connectSsh, type SshConnection } from "./connection/connection.ts";
export { publicKeyOf } from "./connection/handshake.ts";
export { createLink, type Link } from "./connection/link.ts";
export { createSessionLimit } from "./connection/session-limit.ts";
export { type LoginWords, type SshSettings, type SshTable, sshComplaint, sshSettings, sshTable } from "./settings.ts";
export type { Claim } from "./working-copy/claim.ts";
export { createKeptCopies, hostsWithCopies } from "./working-copy/kept-copies.ts";
export { cleanUpAfter } from "./working-copy/recovery.ts";
export { DEFAULT_BUILDS_DIR } from "./working-copy/working-copy.ts";

export interface OverSshOptions
  extends Omit<WorkingCopyOptions, "link">,
    Pick<SshEnvironmentOptions, "cleanUp" | "location" | "inContainer" | "keepsFiles"> {
  /** Taken over: it is closed with the job, and where the job cannot begin. */
  readonly connection: SshConnection;
  /** Opens another connection to the same place, for a job that needs more sessions than one has room for. */
  readonly connect: (signal: AbortSignal) => Promise<SshConnection>;
  /** Called before anything is made there. */
  readonly begin?: () => Promise<void>;
  /** Called before the first script, when the working copy is the job's and programs can be run. */
  readonly ready?: (place: Pick<SshEnvironmentOptions, "commands" | "tools">) => Promise<void>;
  /** By which the runner's next process finds it, where scripts outlive their connection; absent: it ends with this process. */
  readonly handleOf?: (place: Pick<SshEnvironmentOptions, "claim" | "shell">) => Note;
}

export interface AdoptOverSshOptions
  extends Omit<LeftCopy, "link">,
    Pick<OverSshOptions, "connection" | "connect" | "cleanUp" | "location" | "keepsFiles"> {
  readonly handle: Note;
}

/** A job that an earlier process of the runner has begun. @throws {SystemFailure} it is not there any more */
export async function adoptOverSsh(options: AdoptOverSshOptions, signal: AbortSignal): Promise<OverSsh> {
  const { connection, connect, cleanUp, location, keepsFiles, handle, ...place } = options;
  const link = createLink(connection, connect);
  try {
    const copy = await resumeWorkingCopy({ ...place, link }, signal);
    const how = { ...(keepsFiles === undefined ? {} : { keepsFiles }), handle, cleanUp, location };
    return { environment: createSshEnvironment({ ...copy, ...how }), close: () => letGo(copy) };
  } catch (error) {
    link.close();
    throw error;
  }
}

function letGo({ lasting, link }: Pick<SshEnvironmentOptions, "lasting" | "link">): void {
  lasting?.claim.close();
  link.close();
}

/** A job over SSH. */
export interface OverSsh {
  readonly environment: Environment;
  /** Lets go of all connections, where what the job left goes with its place. */
  close(): void;
}

/** A job where somebody has logged in by SSH: on a far host, in a container, in a virtual machine. */
export async function jobOverSsh(options: OverSshOptions, signal: AbortSignal): Promise<OverSsh> {
  const { connection, connect, begin, ready, cleanUp, location, inContainer, keepsFiles, handleOf, ...place } = options;
  const link = createLink(connection, connect);
  try {
    await begin?.();
    const copy = await openWorkingCopy({ ...place, link }, signal);
    await ready?.(copy);
    const handle = copy.lasting === null ? undefined : handleOf?.(copy);
    const how = {
      ...(inContainer === undefined ? {} : { inContainer }),
      ...(keepsFiles === undefined ? {} : { keepsFiles }),
      ...(handle === undefined ? {} : { handle }),
    };
    const environment = createSshEnvironment({ ...copy, cleanUp, location, ...how });
    return { environment, close: () => letGo(copy) };
  } catch (error) {
    link.close();
    throw error;
  }
}
