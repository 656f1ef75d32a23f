import type { Config } from "../../config/config.ts";
import type { JobLocation } from "../../executor/environment.ts";
import type { Found } from "../../local/gitlab/compose/include-sources.ts";
import type { LoadedPlan } from "../../local/gitlab/load.ts";
import type { PlannedJob } from "../../local/gitlab/plan/plan.ts";
import type { WorkingTree } from "../../local/sources/working-tree.ts";
import type { CommandContext } from "../context.ts";
import type { FlagValues } from "../register/runner-flags.ts";
import type { Bury } from "./here/sweep.ts";
import type { ExecOptions } from "./options.ts";
import type { PreviewJob } from "./report.ts";

/** Parts that `exec` needs and only the composition root knows. */
export interface ExecEngine {
  /** What an executor says of itself before anything is started. */
  describe(config: Config): Promise<ExecutorTraits>;
  /** Work on jobs of `config`'s one entry, as `run` does. */
  startRunner(config: Config, context: CommandContext): Promise<ExecRunner>;
  readonly bury: Bury;
  readonly preview: PreviewJob;
  /** A file out of an archive that a job has uploaded. */
  pick(archive: string, path: string): Promise<Found<string>>;
}

interface ExecutorTraits {
  readonly location: JobLocation;
  readonly image: boolean;
  readonly services: boolean;
}

interface ExecRunner {
  /** Asks for no more jobs and waits for those that run. */
  end(): Promise<void>;
}

/** A pipeline to show or to run. */
export interface Work {
  /** Whose it is: AlloyCI's, or GitLab's. */
  readonly dialect: "alloy" | "gitlab";
  /** The CI file as messages name it. */
  readonly file: string;
  readonly loaded: LoadedPlan;
  /** Names of the jobs that run. */
  readonly chosen: ReadonlySet<string>;
  /** Whether somebody asked for a manual job. */
  isPlayed(job: PlannedJob): boolean;
  readonly notes: readonly string[];
}

/** One call of `exec`, with its arguments parsed. */
export interface Run {
  readonly options: ExecOptions;
  readonly executor: string | undefined;
  readonly tree: WorkingTree;
  readonly work: Work;
  readonly values: FlagValues;
  readonly context: CommandContext;
  readonly engine: ExecEngine;
}
