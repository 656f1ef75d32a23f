import type { Job, Trust } from "../job.ts";
import type { GitSettings } from "../plan/settings.ts";

/** What sources are brought by, and cleaned up by. */
export interface SourcesRequest {
  readonly job: Job;
  readonly root: string;
  readonly tmpDir: string;
  readonly git: GitSettings;
  readonly trust: Trust;
  /** Files get the line ends of the commit, or those that its attributes name, whatever the account's settings are. */
  readonly plainLineEnds: boolean;
  /** What git says to the server that it is. */
  readonly userAgent: string;
  /** A repository without settings, with what a fetch of all branches and tags would bring; `undefined`: there is none. */
  readonly template: string | undefined;
  /** `clone_url` of the entry; empty where the received address is used. */
  readonly cloneUrl: string;
  /** `url` of the entry, as far as it is known. */
  readonly serverUrl?: URL | undefined;
  readonly sslNoVerify: boolean;
  readonly coordinatorOrigin: string;
  /** Scripts of the operator and the author around it. */
  readonly before: readonly string[];
  readonly after: readonly string[];
  /** Entries of several lines are shown whole, folded. */
  readonly folded?: boolean;
  /** Value of a variable of the job. */
  get(key: string): string | undefined;
}
