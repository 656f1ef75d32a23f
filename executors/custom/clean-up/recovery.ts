import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { describeError } from "../../../src/errors.ts";
import type { HostPlaces } from "../../../src/executor/deps.ts";
import type { Recovered } from "../../../src/executor/executor.ts";
import type { Log } from "../../../src/log.ts";
import type { DriverHost } from "../driver/call.ts";
import { definedIn, responseFile } from "../driver/driver-environment.ts";
import { cleanUp, restoreDir } from "./clean-up.ts";
import { endProcesses } from "./dead-processes.ts";
import { filesOfTheDead, type KeptJob, letGo, PREFIX, readKept } from "./kept.ts";
import { removeFiles } from "./tidy.ts";

/** Clean-ups under way, shared by all executors of the runner, so that each dead job is cleaned up after once. */
const underWay = new Map<string, Promise<Recovered>>();

export interface RecoveryOptions {
  readonly places: HostPlaces;
  readonly log: Log;
}

/** Clean up after a dead job, by what was kept of it; where that is gone, there is nothing to do. */
export async function recoverJob(file: string, options: RecoveryOptions, signal: AbortSignal): Promise<Recovered> {
  const { keepDir } = options.places;
  if (dirname(file) !== keepDir || !basename(file).startsWith(PREFIX)) {
    return { done: [], left: [`could not run its clean-up: ${file} is not in ${keepDir}`] };
  }
  const known = underWay.get(file);
  if (known !== undefined) return await known;
  const work = recoverKept(file, options, signal);
  underWay.set(file, work);
  try {
    return await work;
  } finally {
    underWay.delete(file);
  }
}

async function recoverKept(file: string, { places, log }: RecoveryOptions, signal: AbortSignal): Promise<Recovered> {
  const kept = await readKept(file);
  if (kept === "unreadable") {
    // Its number stays taken: whatever the job ran in may still be there under its name.
    return {
      done: [],
      left: [
        `could not run its clean-up: ${file}, which says how, cannot be read. Remove it once what the job ran in is gone`,
      ],
    };
  }
  if (kept === null) {
    await letGo(file);
    return { done: [], left: [] };
  }
  const done: string[] = [];
  const left: string[] = [];
  const { ended, survived } = await endProcesses(kept.jobKey, signal).catch((error: unknown) => {
    log.warn("cannot end what a dead job has left running", { problem: describeError(error) });
    return { ended: 0, survived: 0 };
  });
  if (ended > 0) done.push(`ended ${ended === 1 ? "1 process" : `${ended} processes`}`);
  if (survived > 0) left.push(`could not end ${survived} of its processes`);
  const host = await hostOf(kept, places);
  if (kept.files !== null) {
    const { path, args, shell, paths } = kept.files;
    const program = { key: "run_exec", path, args, timeoutMs: Number.POSITIVE_INFINITY } as const;
    if (await removeFiles(host, { program, shell, paths }, log, signal)) done.push("removed its temporary files");
  }
  const problem = await cleanUp({ host, job: kept, file, log }, signal);
  if (problem !== null) left.push(`could not clean up: ${problem}`);
  else if (kept.cleanup !== null) done.push(`ran cleanup_exec (${kept.cleanup.path})`);
  return { done, left };
}

async function hostOf(kept: KeptJob, { working, env }: HostPlaces): Promise<DriverHost> {
  const ours = await restoreDir(kept.dir, kept.payload).then(
    () => true,
    () => false,
  );
  // After a restart of the machine the directory of this name may be somebody else's.
  const dir = ours ? kept.dir : await mkdtemp(join(tmpdir(), "alloy-custom-"));
  if (!ours) await restoreDir(dir, kept.payload);
  const moved = ours ? {} : { TMPDIR: dir, JOB_RESPONSE_FILE: responseFile(dir) };
  return {
    dir,
    workingDirectory: working,
    environment: { ...definedIn(env), ...kept.environment, ...moved },
    limits: { gracefulMs: kept.gracefulMs, forceMs: kept.forceMs },
    stopGraceMs: kept.gracefulMs,
  };
}

/**
 * Cleans up after jobs whose result had arrived but whose clean-up was under way when the runner died: the journal does
 * not know them.
 */
export async function sweep(options: RecoveryOptions, signal: AbortSignal): Promise<void> {
  for await (const file of filesOfTheDead(options.places.keepDir)) {
    const { done, left } = await recoverJob(file, options, signal);
    const said = [...done, ...left].join("; ");
    if (said !== "") options.log.info("cleaned up after a job of a runner that is no more", { result: said });
  }
}
