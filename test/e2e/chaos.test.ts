import { readdir, readFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { afterEach, expect, test } from "vitest";
import type { LocalJob } from "../../src/local/coordinator/coordinator.ts";
import { createChaos } from "../../src/local/coordinator/faults/chaos.ts";
import { createRandom } from "../../src/local/coordinator/faults/random.ts";
import { pause } from "../../src/time.ts";
import { type Death, watchLives } from "../support/lives.ts";
import { judge, type RandomJob, READY, randomJob } from "../support/random-jobs.ts";
import { openSite, type Site } from "../support/site.ts";
import { tree } from "../support/tree.ts";
import { processesWith, watchArguments } from "../support/watch-secrets.ts";

/** The same seed means the same jobs and faults; only the moment of a kill depends on the machine. */
const seed = process.env.CHAOS_SEED ?? "7";
const jobCount = Number(process.env.CHAOS_JOBS ?? 250);
const longestMs = 40_000;

const open: Site[] = [];
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
});

/** Ids of the jobs in the state directory, whose files must be private and have no secret in their names. */
async function keptJobs(stateDir: string, secrets: readonly string[], problems: Set<string>): Promise<string[]> {
  const ids: string[] = [];
  for (const { path, stats } of tree(stateDir)) {
    const name = relative(stateDir, path);
    if ((stats.isDirectory() || stats.isFile()) && (stats.mode & 0o077) !== 0) problems.add(`${name} is not private`);
    if (secrets.some((secret) => name.includes(secret))) problems.add(`${name} is named after a secret`);
    const id = /^jobs\/[0-9a-f]{8}-([0-9a-z]+)-[0-9a-f]+$/.exec(name)?.[1];
    // A job without a whole line in its record is not accepted yet: the process was killed while it wrote that line.
    const record = id === undefined ? "" : await readFile(join(path, "record"), "utf8").catch(() => "");
    if (id !== undefined && record.includes("\n")) ids.push(id);
  }
  return ids;
}

/** AlloyCI counts a canceled job as over at once, so the first report tells when its runner was done. */
function diedWithRunner({ pickedUpAt, updates }: LocalJob, deaths: readonly Death[]): boolean {
  const end = updates.find(({ state }) => state === "success" || state === "failed")?.at ?? Number.POSITIVE_INFINITY;
  return deaths.some(({ at, overAt }) => (pickedUpAt ?? Number.POSITIVE_INFINITY) <= overAt && at <= end);
}

test.each(["alloy", "gitlab"] as const)(
  `on %s's worst day every job ends once, with its own state and its whole trace (CHAOS_SEED=${seed})`,
  { timeout: 400_000 },
  async (dialect) => {
    const canary = `canary-${seed}-of-a-secret`;
    const random = createRandom(`${seed} blows`);
    const chaos = createChaos({ seed, rate: 0.12, jobRequestRate: 0.06 });
    const site = await openSite({
      dialect,
      global: 'concurrent = 8\ncheck_interval = 1\nlog_level = "debug"',
      recordBodyBytes: 0,
      longPollMs: 5000,
      acknowledgeTimeoutMs: 3000,
      stopped: true,
    });
    open.push(site);
    const { coordinator, stateDir, tokens } = site;
    const planned = Array.from({ length: jobCount }, (_, index) => randomJob(seed, index, canary));
    const jobs = new Map<LocalJob, RandomJob>();
    /** Jobs that GitLab took back, because nobody confirmed that they were taken. */
    const dropped: LocalJob[] = [];
    const lives = watchLives(coordinator);
    const secrets = (): string[] => [canary, ...tokens, ...[...jobs.keys(), ...dropped].map(({ token }) => token)];
    using watch = watchArguments(secrets);
    const problems = new Set<string>();
    const startRunner = (): Promise<void> => lives.begin(() => site.start());

    await startRunner();
    coordinator.intercept = chaos.intercept;
    const follow = (job: LocalJob, plan: RandomJob): void => {
      jobs.set(job, plan);
      if (plan.kind !== "canceled") return;
      job.traceContains(READY, { timeoutMs: 400_000 }).then(
        () => job.cancel(),
        () => {}, // its runner died before the job was at work
      );
    };
    for (const plan of planned) follow(coordinator.enqueue(plan.spec), plan);

    const isOut = (job: LocalJob): boolean => isReported(job) || lives.isLost(job);
    const allOut = (): boolean => [...jobs.keys()].every(isOut);
    let news = new AbortController();
    const look = (): void => {
      if (allOut()) news.abort();
    };
    const listeners = [
      coordinator.on("reported", look),
      coordinator.on("job", (job) => {
        const plan = jobs.get(job);
        if (job.retriedAs === undefined || plan === undefined) return;
        jobs.delete(job);
        dropped.push(job);
        follow(job.retriedAs, plan);
      }),
    ];
    const now = (): number => performance.timeOrigin + performance.now();
    const strike = async (signal: Death["signal"]): Promise<void> => {
      const at = now();
      await site.runner.stop(signal);
      lives.end({ signal, at, overAt: now(), kept: await keptJobs(stateDir, secrets(), problems) });
    };
    const begin = performance.now();
    while (!allOut() && performance.now() - begin < longestMs) {
      news = new AbortController();
      await pause(300 + random() * 1700, news.signal).catch(() => {});
      await strike(random() < 0.8 ? "SIGKILL" : "SIGTERM");
      await startRunner();
    }
    // No more faults and kills: a new process, which waits for nothing from before, delivers the rest.
    coordinator.intercept = undefined;
    await strike("SIGTERM");
    await startRunner();
    // A slow machine needs its time for queued jobs, so the test ends only when no news comes any more.
    news = new AbortController();
    look();
    for (let before = -1, now = 0; before !== now && !news.signal.aborted; ) {
      before = now;
      await pause(30_000, news.signal).catch(() => {});
      now = [...jobs.keys()].filter(isOut).length;
    }
    for (const stop of listeners) stop();
    await site.runner.stop("SIGQUIT");

    const { deaths } = lives;
    const lost = [...jobs.keys()].filter((job) => lives.isLost(job));
    for (const [job, plan] of jobs) {
      if (lost.includes(job)) continue;
      if (!isReported(job)) {
        problems.add(
          `${job.name} (${plan.kind}, ${job.id}): never reported; it is ${job.status}${historyOf(job, deaths)}`,
        );
      } else for (const problem of judge(plan, job, diedWithRunner(job, deaths), canary)) problems.add(problem);
    }
    for (const { name, id, liveText } of dropped) {
      if (/Running with/.test(liveText))
        problems.add(`${name} (${id}): it ran, though nobody was told that it was taken`);
    }
    for (const log of lives.logs) {
      for (const secret of secrets()) if (log.includes(secret)) problems.add(`the log shows ${secret}`);
      const accident = /.*(?:unexpected|should not exist).*/i.exec(
        log.replaceAll("its process ended unexpectedly", ""),
      );
      if (accident !== null) problems.add(accident[0]);
    }
    for (const found of watch.found) problems.add(`an argument list shows a secret: ${found.slice(0, 200)}`);
    expect([...problems], describe(chaos.counts, deaths, lost, dropped)).toEqual([]);
    expect(lost.length).toBeLessThanOrEqual(deaths.length);
    expect(watch.looks).toBeGreaterThan(100);
    expect(await readdir(join(stateDir, "jobs"))).toEqual([]);
    const aside = await readdir(join(stateDir, "corrupt"));
    expect(aside.filter((name) => ![...lost, ...dropped].some(({ id }) => name.split("-")[1] === id))).toEqual([]);
    const [runnerId] = await readdir(join(site.workDir, "builds"));
    expect(processesWith(`ALLOY_RUNNER_JOB_KEY=${runnerId}-`)).toEqual([]);
    console.log(describe(chaos.counts, deaths, lost, dropped));
  },
);

/** GitLab refuses the report of a job that nobody acknowledged: that job still waits, and is run again. */
function isReported({ updates, status }: LocalJob): boolean {
  return status !== "pending" && updates.some(({ state }) => state === "success" || state === "failed");
}

/** Tells when a job was handed out, and which kills came near it or found it on disk. */
function historyOf({ id, pickedUpAt }: LocalJob, deaths: readonly Death[]): string {
  if (pickedUpAt === undefined) return "; it was never handed out";
  const near = deaths
    .filter(({ at, kept }) => Math.abs(at - pickedUpAt) < 10_000 || kept.includes(id))
    .map(
      ({ signal, at, kept }) =>
        `${signal} ${Math.round(at - pickedUpAt)} ms later${kept.includes(id) ? " (on disk)" : ""}`,
    );
  return `; it was handed out, then came ${near.join(", ") || "nothing"}`;
}

function describe(
  counts: ReadonlyMap<string, number>,
  deaths: readonly Death[],
  lost: readonly LocalJob[],
  dropped: readonly LocalJob[],
): string {
  const faults = [...counts].map(([kind, count]) => `${kind} ${count}`).join(", ");
  const kills = deaths.filter(({ signal }) => signal === "SIGKILL").length;
  return `CHAOS_SEED=${seed}; ${kills} kills, ${deaths.length - kills} stops; lost between answer and journal: ${lost.length}; taken back: ${dropped.length}; ${faults}`;
}
