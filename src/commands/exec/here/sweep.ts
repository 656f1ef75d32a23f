import { stat } from "node:fs/promises";
import { basename, join } from "node:path";
import type { Config } from "../../../config/config.ts";
import { Stop } from "../../../errors.ts";
import { deadline, never, unlessAborted } from "../../../time.ts";
import type { CommandContext } from "../../context.ts";
import { execConfig } from "./config.ts";
import { type ExecPlaces, otherRuns, placesOfRun, removeJobFiles } from "./places.ts";
import { type RunRecord, readRecord } from "./record.ts";

/**
 * Ends what a dead run has left by the notes in its state directory.
 * @param config of that run, where it can still be told
 * @returns `alive`: it is no dead run; else whether all is gone now, or what is in the way
 */
export type Bury = (
  stateDir: string,
  config: Config | null,
  signal: AbortSignal,
) => Promise<"alive" | "clean" | { readonly problem: string }>;

/**
 * This run's jobs wait this long for the clean-up, because leftovers of a dead run may hold a port or a file. Its end
 * waits as long again.
 */
const PATIENCE_MS = 5000;
/** An executor that is in the midst of a clean-up may ignore that it is to end: nobody waits longer for their prompt. */
const LAST_STEP_MS = 3000;
const KILL_GRACE_MS = 2000;
/** Older runs are not tried again: what could not be reached until then will not come back. */
const OLDEST_MS = 7 * 24 * 60 * 60 * 1000;

export interface Sweep {
  /** Resolves when the clean-up is done, or after a few seconds; then it goes on while jobs run. */
  soon(signal: AbortSignal): Promise<void>;
  /** Ends the clean-up, and says what could not be done. */
  end(): Promise<string[]>;
}

/** Runs that were killed: their processes and containers are ended, their directories go. What cannot be cleaned is tried again next time. */
export function startSweep(
  places: ExecPlaces,
  bury: Bury,
  context: CommandContext,
  { patienceMs, lastStepMs } = { patienceMs: PATIENCE_MS, lastStepMs: LAST_STEP_MS },
): Sweep {
  const over = new AbortController();
  const problems: string[] = [];
  const work = async (): Promise<void> => {
    for (const dir of await otherRuns(places)) {
      over.signal.throwIfAborted();
      const record = await readRecord(dir);
      const config = record === null ? null : await configOf(record, dir, places, context).catch(() => null);
      const found = await bury(placesOfRun(dir).stateDir, config, over.signal);
      if (found === "alive") continue;
      if (found === "clean" || (await isOld(dir))) await removeRun(dir, record);
      else problems.push(`An exec that was killed has left something that cannot be removed yet: ${found.problem}`);
    }
  };
  const done = work().catch(() => undefined);
  let isDone = false;
  void done.then(() => {
    isDone = true;
  });
  const patiently = async (ms: number, signal: AbortSignal): Promise<void> => {
    using patience = deadline(signal, ms, new Stop("timed_out", "it goes on beside the jobs"));
    await unlessAborted(done, patience.signal).catch(() => undefined);
  };
  return {
    async soon(signal) {
      await patiently(patienceMs, signal);
      signal.throwIfAborted();
    },
    async end() {
      await patiently(patienceMs, never);
      over.abort(new Stop("shutting_down", "exec ends"));
      await patiently(lastStepMs, never);
      if (!isDone)
        problems.push("An exec that was killed has left something that is still being removed: the next exec goes on");
      return problems;
    },
  };
}

async function configOf(record: RunRecord, dir: string, places: ExecPlaces, context: CommandContext): Promise<Config> {
  const { stateDir, buildsDir } = placesOfRun(dir);
  return await execConfig(
    {
      values: record.values,
      executor: textOrNothing(record.values.config) === undefined ? record.executor : undefined,
      parallel: 1,
      // This address is never asked for jobs.
      url: "http://127.0.0.1/",
      token: basename(dir),
      stateDir,
      buildsDir: record.buildsDir ?? buildsDir,
      cachesDir: places.cachesDir,
      killGraceMs: KILL_GRACE_MS,
      environment: [],
      templateDir: undefined,
    },
    { ...context, cwd: record.cwd },
  );
}

function textOrNothing(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

async function isOld(dir: string): Promise<boolean> {
  return Date.now() - (await stat(dir)).mtimeMs > OLDEST_MS;
}

/**
 * Removes a run's directory with its working copies, also where these lie elsewhere. Rejects with the system's error.
 */
export async function removeRun(dir: string, record: Pick<RunRecord, "buildsDir"> | null): Promise<void> {
  const elsewhere = record?.buildsDir;
  // Only a directory that can be a run's own is removed.
  if (elsewhere !== undefined && basename(elsewhere) === buildsNameOf(dir)) await removeJobFiles(elsewhere);
  await removeJobFiles(dir);
}

/** Working copies of the run in `dir` that `--builds-dir` wants elsewhere. */
export function buildsElsewhere(dir: string, asked: string): string {
  return join(asked, buildsNameOf(dir));
}

function buildsNameOf(dir: string): string {
  return `exec-${basename(dir)}`;
}
