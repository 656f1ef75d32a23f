import type { Socket } from "node:net";
import type { Log } from "../log.ts";

/** Where a runner listens to its operator, and who may come in. */
export interface Door {
  /** What to listen at. */
  readonly path: string;
  /** Called once somebody listens: from then on it can be found. */
  opened(): Promise<void>;
  /** Whether whoever has connected may speak. */
  admits(socket: Socket): Promise<boolean>;
  /** Called once nobody listens any more, or nobody ever did. */
  closed(): Promise<void>;
}

export type OpenDoor = (stateDir: string, log: Log) => Promise<Door>;
