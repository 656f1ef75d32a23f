import type { Op } from "../../shell.ts";
import type { CacheTransfer, Transfer } from "../../transfer/transfer.ts";
import type { Job, StageName, When } from "../job.ts";
import type { JobVariables, Place, RunnerIdentity } from "../variables/variables.ts";
import type { JobSettings } from "./settings.ts";

/** A phase of a job, in the order of the plan. Plain data: printable, comparable, testable without a process. */
export type Stage = ScriptStage | TransferStage;

/** Files that the runner itself moves. */
export interface TransferStage {
  readonly kind: "transfer";
  readonly name: StageName;
  /** For sentences: `uploading artifacts`. */
  readonly title: string;
  readonly transfer: Transfer;
  readonly policy: Policy;
}

/** Instructions that run in the environment. */
export interface ScriptStage {
  readonly kind: "script";
  readonly name: StageName;
  /** For sentences: `getting the sources`. */
  readonly title: string;
  readonly ops: readonly Op[];
  /** Run once in the place of `ops`, in the same attempt, if these failed and the network was not why. */
  readonly anew: readonly Op[] | null;
  /** Where there are two environments: the one with git, or the one that the job asked for. */
  readonly runIn: "helper" | "build";
  /** The author's own text: its end is the job's fault, its output proves nothing. */
  readonly authored: boolean;
  /** Little and quick, and the runner's own: run a second time it does the same and prints the same. */
  readonly repeatable?: true;
  /** It begins with a working copy without these, and cleans it: what is still right of them may wait elsewhere. */
  readonly setsAside?: readonly CacheTransfer[];
  readonly policy: Policy;
}

export interface Policy {
  /** What must have happened so far. */
  readonly when: When;
  /** Only if the author's script had begun. */
  readonly afterScriptBegan: boolean;
  /** 1–10. */
  readonly attempts: number;
  /** `null`: only the job's own limit. */
  readonly timeoutMs: number | null;
  /** `false`: a failure is a warning in the trace. */
  readonly decides: boolean;
  /** `job`: ends with the job's signal. `own`: also runs after a cancel and after the job's time limit, for `timeoutMs`. */
  readonly clock: "job" | "own";
  /** `false`: not after the job's time limit, where it would come on top. */
  readonly afterTimeLimit?: false;
}

export interface PlanRequest {
  readonly job: Job;
  readonly settings: JobSettings;
  readonly variables: JobVariables;
  readonly place: Pick<Place, "root" | "tmpDir">;
  /** The operator's: what runs in each job, where sources come from. */
  readonly runner: PlanSettings;
  /** Servers of sources hear it. */
  readonly identity: RunnerIdentity;
  readonly coordinatorOrigin: string;
  /** Hand the job's own words to git over to the fetching of its sources. */
  readonly gitOps?: readonly Op[];
}

export interface PlanSettings {
  /** The coordinator's address; unknown where a plan is only shown. */
  readonly url?: URL;
  readonly cloneUrl: string;
  readonly preCloneScript: string;
  readonly postGetSourcesScript: string;
  readonly preBuildScript: string;
  readonly postBuildScript: string;
  readonly getSourcesTimeoutMs: number | null;
  readonly gitSslNoVerify: boolean;
  readonly plainLineEnds?: true;
  readonly sourcesTemplate?: string;
}
