import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { isOver, type JobSpec, type LocalJob } from "../../src/local/coordinator/jobs/job.ts";
import { AWAY } from "./durable-site.ts";
import { start } from "./program.ts";
import type { Site } from "./site.ts";

const SECRET = "hush-4711-hush-4711";

/** Where jobs of a storm count their starts: the same directory as they and as the test reach it. */
export interface Counts {
  readonly theirs: string;
  readonly ours: string;
}

export interface StormJob {
  /** As it was enqueued. */
  readonly job: LocalJob;
  readonly n: number;
  readonly counts: Counts;
}

/** For a coordinator of GitLab's: it gives a job to somebody else soon where nobody has said to have it. */
export const STORM_SWITCHES = { acknowledgeTimeoutMs: 10_000 };

/** The job, or what GitLab put in its place because its runner had died before it said to have it. */
export function lastOf(job: LocalJob): LocalJob {
  return job.retriedAs === undefined ? job : lastOf(job.retriedAs);
}

/** Pieces of lines, a secret, artifacts and a status, all by the job's number. */
export function stormWork(n: number, { theirs }: Counts): JobSpec {
  return {
    name: `job-${n}`,
    script: [
      `echo x >>${theirs}/job-${n}; echo begun with $SECRET`,
      `sleep 0.${n % 10}; seq 1 ${200 + n * 10}; printf 'half of '; sleep 0.${(n * 7) % 10}; echo whole; echo $SECRET >result`,
      `exit ${n % 3}`,
    ],
    afterScript: [`echo x >>${theirs}/after-${n}; echo afterwards $CI_JOB_STATUS`],
    variables: [{ key: "SECRET", value: SECRET, masked: true, public: false }],
    artifacts: { paths: ["result"], when: "always" },
  };
}

export interface StormOptions {
  /** How long a runner lives, in milliseconds: at least, at most. */
  readonly lifeMs: readonly [number, number];
  /** No longer than this; then one is left alive, which has four times as much. */
  readonly limitMs: number;
}

/**
 * Kills runner after runner until all jobs are over.
 * @returns how many were killed; jobs that were handed out to a runner which died before it had kept them, and of which AlloyCI alone
 * knows; those that are not over in spite of all
 * the time, and the log of all
 */
export async function storm(
  { configFile, workDir, stateDir, dir }: Site,
  all: readonly LocalJob[],
  { lifeMs: [least, most], limitMs }: StormOptions,
): Promise<{ kills: number; lost: ReadonlySet<LocalJob>; open: readonly string[]; log: string }> {
  const lost = new Set<LocalJob>();
  const findLost = (): void => {
    const kept = existsSync(join(stateDir, "jobs")) ? readdirSync(join(stateDir, "jobs")) : [];
    for (const job of all) {
      const isOpen = job.pickedUpAt !== undefined && job.status === "running";
      if (isOpen && !kept.some((name) => name.includes(`-${job.id}-`))) lost.add(job);
    }
  };
  const open = (): readonly LocalJob[] => all.filter((job) => !lost.has(job) && !isOver(lastOf(job).status));
  const from = Date.now();
  let kills = 0;
  let log = "";
  while (open().length > 0) {
    const running = start(["run", "--config", configFile, "--working-directory", workDir], { home: dir });
    const isLast = Date.now() - from > limitMs;
    const life = isLast ? 4 * limitMs : least + Math.random() * (most - least);
    for (const end = Date.now() + life; Date.now() < end && open().length > 0; ) await wait(20);
    running.child.kill("SIGKILL");
    await running.exit;
    log += running.stderr();
    findLost();
    if (isLast) break;
    kills++;
  }
  return { kills, lost, log, open: open().map(({ name, status }) => `${name}: ${status}`) };
}

/** All that tells whether a job ended once, as its script made it. */
export function told({ job: first, n, counts: { ours } }: StormJob) {
  const job = lastOf(first);
  const trace = job.trace.replace(AWAY, "");
  const numbers = [...trace.matchAll(/^(\d+)\r?$/gm)].map(([, number]) => Number(number));
  return {
    name: job.name,
    exit: job.status === "success" ? 0 : job.exitCode,
    reason: job.failureReason,
    runs: ["job", "after"].map((name) => {
      const file = join(ours, `${name}-${n}`);
      return existsSync(file) ? readFileSync(file, "utf8") : "";
    }),
    numbers: numbers.every((number, index) => number === index + 1) ? numbers.length : numbers,
    once: ["begun with [MASKED]", "half of whole", "afterwards"].map((text) => trace.split(`\n${text}`).length - 1),
    isSecretShown: trace.includes(SECRET),
    hasArtifacts: job.artifacts.length > 0,
  };
}

/** What `told` says of a job that nothing happened to. */
export function undisturbed({ job, n }: StormJob): ReturnType<typeof told> {
  return {
    name: job.name,
    exit: n % 3,
    reason: n % 3 === 0 ? undefined : "script_failure",
    runs: ["x\n", "x\n"],
    numbers: 200 + n * 10,
    once: [1, 1, 1],
    isSecretShown: false,
    hasArtifacts: true,
  };
}
