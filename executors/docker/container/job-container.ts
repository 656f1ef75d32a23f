import type { RemoteTools } from "../../remote/index.ts";

/** A container that runs, as scripts and file work use it. */
export interface JobContainer {
  readonly id: string;
  /** `the build container`. */
  readonly name: string;
  /** What it was made of, for messages. */
  readonly image: string;
  readonly tools: RemoteTools;
  /** Whom scripts run as; `undefined`: as the container says. */
  readonly user: string | undefined;
  /** `NAME=value` for scripts, beyond the container's own. */
  readonly env: readonly string[];
  /** Its image is the operator's choice: the runner may be root in it. In a job's image it is the job's user and no other. */
  readonly trusted: boolean;
}
