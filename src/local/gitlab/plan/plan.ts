import type { Wire } from "../../coordinator/http/wire.ts";
import type { RawVariable } from "../decide/expand.ts";
import type { Node } from "../read/node.ts";

/** When a job starts, as those before it have ended. */
export type JobWhen = "on_success" | "on_failure" | "always" | "manual" | "delayed";

export interface PlannedNeed {
  /** The job of the pipeline that is needed. */
  readonly job: string;
  readonly artifacts: boolean;
}

/** A job of the pipeline that has started this one, or of another child of it. */
export interface UpstreamNeed {
  /** The pipeline's id, with variables not yet expanded. */
  readonly pipeline: string;
  readonly job: string;
}

export interface Retry {
  readonly max: number;
  /** Failure reasons; `always`: all. */
  readonly when: readonly string[];
  readonly exitCodes: readonly number[];
}

export interface PlannedCache {
  readonly key: string;
  readonly paths: readonly string[];
  /** The cache in the form in which it travels to the runner, with its key. */
  readonly wire: Wire;
}

export interface PlannedArtifacts {
  readonly paths: readonly string[];
  /** Patterns of dotenv reports. */
  readonly dotenv: readonly string[];
  /** The archive and each report, in the form in which they travel. */
  readonly wires: readonly Wire[];
}

export interface PlannedEnvironment {
  readonly name: string;
  readonly url: string | null;
  readonly action: string;
  readonly tier: string | null;
  readonly onStop: string | null;
}

/** Another pipeline that a job starts. */
export interface PlannedTrigger {
  /** The project whose pipeline is started; `null`: it is a child pipeline. */
  readonly project: string | null;
  /** The files of the child pipeline. */
  readonly include: Node | undefined;
  readonly strategy: "depend" | "mirror" | null;
  /** For those of the files that are given none by themselves. */
  readonly inputs: Node | undefined;
  readonly forwardYaml: boolean;
  readonly forwardPipeline: boolean;
}

/** A job of a pipeline; of a parallel one, an instance. */
export interface PlannedJob {
  readonly name: string;
  /** The job's name in the file, without what `parallel` adds. */
  readonly group: string;
  readonly stage: string;
  readonly when: JobWhen;
  /** Exit codes: only with these. */
  readonly allowFailure: boolean | readonly number[];
  /** While it waits for a person, what comes after it waits, too. */
  readonly blocks: boolean;
  /** `null`: it waits for all earlier stages. */
  readonly needs: readonly PlannedNeed[] | null;
  /** Artifacts of other pipelines' jobs. */
  readonly upstream: readonly UpstreamNeed[];
  /** Names of jobs whose artifacts it gets; `null`: all earlier ones, or what it needs. */
  readonly dependencies: readonly string[] | null;
  readonly image: Wire | null;
  readonly services: readonly Wire[];
  readonly script: readonly string[];
  readonly afterScript: readonly string[];
  readonly beforeSources: readonly string[];
  /** The job's own, as merged, not expanded. */
  readonly ownVariables: readonly RawVariable[];
  /** All that it gets from the file, later ones win, not expanded. */
  readonly variables: readonly RawVariable[];
  /** Number of instances. */
  readonly parallel: { readonly index: number; readonly total: number } | null;
  readonly retry: Retry | null;
  readonly timeoutSeconds: number | null;
  readonly startInSeconds: number | null;
  readonly caches: readonly PlannedCache[];
  readonly artifacts: PlannedArtifacts | null;
  readonly environment: PlannedEnvironment | null;
  readonly tags: readonly string[];
  readonly resourceGroup: string | null;
  readonly interruptible: boolean;
  readonly coverage: string | null;
  readonly trigger: PlannedTrigger | null;
  /** The rule that matched, as it is written; `null`: the job has none. */
  readonly rule: string | null;
  /** What only a server could do, one sentence each. */
  readonly leftOut: readonly string[];
  readonly place: { readonly file: string; readonly line: number; readonly column: number };
}

/** A job of the file that is not in the pipeline. */
export interface AbsentJob {
  readonly name: string;
  readonly stage: string;
  readonly why: string;
}

/** A pipeline that could be run. */
export interface Plan {
  readonly stages: readonly string[];
  /** The jobs by stages, and within a stage as they stand in the file. */
  readonly jobs: readonly PlannedJob[];
  readonly absent: readonly AbsentJob[];
  /** Why there is no pipeline; `null`: there is one. */
  readonly refusal: string | null;
  readonly name: string | null;
  /** The first failure cancels all that runs or waits. */
  readonly cancelOnFailure: boolean;
}
