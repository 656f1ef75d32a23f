import type { Writable } from "node:stream";
import type { LocalCoordinator } from "../coordinator/coordinator.ts";
import type { VariableSpec } from "../coordinator/jobs/job.ts";
import { runPlan } from "../gitlab/run/run-plan.ts";
import type { TerminalSize } from "../report/live-output.ts";
import type { CiFile } from "./ci-file.ts";
import { loadedFile } from "./load-file.ts";
import { findJob } from "./needs.ts";
import type { PipelineJob } from "./pipeline-job.ts";
import { fullRef, type PipelineProject } from "./pipeline-project.ts";
import { planFile } from "./plan-file.ts";

export interface PipelineOptions {
  readonly coordinator: LocalCoordinator;
  readonly file: CiFile;
  readonly project: PipelineProject;
  /** Where the display goes; left open. */
  readonly output: Writable;
  readonly colors: boolean;
  /** Variables that must not show in a trace: the project's secrets. */
  readonly secrets?: Readonly<Record<string, string>>;
  /** Variables that the coordinator sets and those of the file win over. */
  readonly predefined?: readonly VariableSpec[];
  /** Variables of the project: they win over those of the file, and may be secret. */
  readonly variables?: readonly VariableSpec[];
  /** Where it is a terminal: a line per running job is kept up to date below the output. */
  readonly terminal?: TerminalSize | undefined;
  /**
   * Names of the jobs to run, whatever their `when` and refs say; one whose earlier stages failed is left out as ever.
   * Default: what a push would run.
   */
  readonly only?: readonly string[];
  /** Hand the jobs to the runner with this token only. Tags do not matter here. */
  readonly runnerToken?: string;
  /** Each job's limit. Default: 3600. */
  readonly timeoutSeconds?: number;
  /** How long a canceled job may take to send its last lines. Default: 10,000. */
  readonly lastWordsMs?: number;
  /** A line that is shown when `signal` fires. */
  readonly cancelNote?: string;
}

export interface PipelineResult {
  /** No job failed that was not allowed to, and none was canceled. */
  readonly success: boolean;
  readonly canceled: boolean;
  /** The job that failed before all others and was not allowed to. */
  readonly firstFailure: PipelineJob | undefined;
  /** In the order of stages. */
  readonly jobs: readonly PipelineJob[];
}

/** How long a canceled job may take to send its last lines. */
const LAST_WORDS_MS = 10_000;

/**
 * Run the jobs of AlloyCI's file on whoever asks the coordinator for jobs. Shows their output line by line, and a table at
 * the end. When `signal` fires, what runs is canceled and the result says so. Rejects when `output` breaks.
 * @throws {CommandError} `only` names a job that is not there
 */
export async function runPipeline(options: PipelineOptions, signal: AbortSignal): Promise<PipelineResult> {
  const { coordinator, file, project, only, secrets = {}, predefined = [], variables = [] } = options;
  for (const name of only ?? []) findJob(name, file);
  const named = new Set(only);
  const plan = planFile(file, fullRef(project), named);
  if (plan.refusal !== null) {
    options.output.write(`${plan.refusal}.\n`);
    return { success: true, canceled: false, firstFailure: undefined, jobs: [] };
  }
  return await runPlan(
    {
      coordinator,
      loaded: loadedFile(file, plan, project),
      chosen: new Set(plan.jobs.flatMap(({ name }) => (only === undefined || named.has(name) ? [name] : []))),
      isPlayed: () => only !== undefined,
      output: options.output,
      colors: options.colors,
      terminal: options.terminal,
      cancelNote: options.cancelNote,
      lastWordsMs: options.lastWordsMs ?? LAST_WORDS_MS,
      noDelay: false,
      overrides: new Map(),
      pick: async () => ({ problem: "is not there" }),
      handed: {
        dialect: "alloy",
        project,
        variables: [...variables, ...Object.entries(secrets).map(([key, value]) => ({ key, value, masked: true }))],
        unset: [],
        runnerVariables: predefined,
        runnerToken: options.runnerToken,
        timeoutSeconds: options.timeoutSeconds ?? TIMEOUT_SECONDS,
      },
    },
    signal,
  );
}

/** AlloyCI's limit of a job. */
const TIMEOUT_SECONDS = 3600;
