import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type LocalCoordinator, startCoordinator } from "../src/local/coordinator/coordinator.ts";
import type { GitSpec, LocalJob } from "../src/local/coordinator/jobs/job.ts";
import { type Running, start } from "../test/support/program.ts";

/** One measured figure: the value as a number in `unit`, and the bound it should stay below (or above). */
export interface Figure {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  readonly target: number;
  /** `at least` for rates. */
  readonly bound: "at most" | "at least";
}

export interface Scene {
  readonly coordinator: LocalCoordinator;
  readonly runner: Running;
  readonly dir: string;
  readonly tokens: readonly string[];
}

export interface SceneOptions {
  readonly dialect: "alloy" | "gitlab";
  readonly entries?: number;
  readonly concurrent?: number;
  readonly switches?: Partial<Parameters<typeof startCoordinator>[0]>;
  /** More lines of the global section. */
  readonly global?: string;
  /** Default: shell. */
  readonly executor?: string;
  /** More lines of each entry. */
  readonly entry?: string;
  /** A command that starts the runner. */
  readonly under?: readonly string[];
  /** Environment of the runner, besides the variables that it always has. */
  readonly env?: Readonly<Record<string, string>>;
}

/** The built runner at work for a small coordinator, in a directory of its own; both are ended afterwards. */
export async function withScene<T>(options: SceneOptions, body: (scene: Scene) => Promise<T>): Promise<T> {
  const dir = await mkdtemp(join(tmpdir(), "alloy-bench-"));
  const coordinator = await startCoordinator({ dialect: options.dialect, ...options.switches });
  try {
    const tokens = Array.from({ length: options.entries ?? 1 }, () => coordinator.addRunner().token);
    const file = join(dir, "config.toml");
    const entries = tokens.map(
      (token, index) =>
        `[[runners]]\nname = "bench-${index}"\nurl = "${coordinator.url}"\ntoken = "${token}"\nexecutor = "${options.executor ?? "shell"}"\n${options.entry ?? ""}\n`,
    );
    await mkdir(join(dir, "work"));
    await writeFile(
      file,
      `concurrent = ${options.concurrent ?? 10}\nstate_dir = "${join(dir, "state")}"\n${options.global ?? ""}\n${entries.join("\n")}`,
      { mode: 0o600 },
    );
    const runner = start(["run", "--config", file, "--working-directory", join(dir, "work")], {
      home: dir,
      env: options.env ?? {},
      ...(options.under === undefined ? {} : { under: options.under }),
    });
    try {
      await coordinator.waitForRequest((request) => request.endpoint === "job_request");
      return await body({ coordinator, runner, dir, tokens });
    } finally {
      await runner.stop("SIGTERM");
    }
  } finally {
    await coordinator.close();
    await rm(dir, { recursive: true, force: true });
  }
}

/** A repository with one commit of so many small files, `file-0` and so on, removed afterwards. */
export async function withRepository<T>(files: number, body: (git: GitSpec) => Promise<T>): Promise<T> {
  const dir = await mkdtemp(join(tmpdir(), "alloy-bench-repo-"));
  try {
    const git = (...args: string[]): string =>
      execFileSync("git", ["-c", "user.name=bench", "-c", "user.email=bench@example.com", ...args], {
        cwd: dir,
        encoding: "utf8",
      }).trim();
    git("init", "-q", "-b", "main");
    for (let i = 0; i < files; i++) await writeFile(join(dir, `file-${i}`), `${i}\n`.repeat(100));
    git("add", ".");
    git("commit", "-q", "-m", "one");
    return await body({ repoUrl: `file://${dir}`, sha: git("rev-parse", "HEAD"), ref: "main" });
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

/** Resident memory of a process in MB; `peak` is the highest it ever was. */
export function residentMb(pid: number): { now: number; peak: number } {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const read = (key: string): number =>
    Number(new RegExp(`^${key}:\\s+(\\d+) kB`, "m").exec(status)?.[1] ?? Number.NaN) / 1024;
  return { now: read("VmRSS"), peak: read("VmHWM") };
}

/** Processor time a process has used, in seconds. */
export function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /s, "")
    .split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** From the pick-up of a job to its report, in milliseconds. @throws it failed */
export async function msToSuccess(job: LocalJob, timeoutMs: number): Promise<number> {
  const update = await job.reported({ timeoutMs });
  if (update.state !== "success") throw new Error(`the job failed:\n${job.trace}`);
  return update.at - (job.pickedUpAt ?? 0);
}

/** The median of so many jobs without sources, one after the other, and one before that does not count. */
export async function medianMs({ coordinator }: Scene, rounds: number): Promise<number> {
  const times: number[] = [];
  for (let round = 0; round <= rounds; round++) {
    const job = coordinator.enqueue({ script: ["true"], variables: { GIT_STRATEGY: "none" } });
    times.push(await msToSuccess(job, 60_000));
  }
  return median(times.slice(1));
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** What of twenty nineteen do not exceed. */
export function p95(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.ceil(sorted.length * 0.95) - 1] ?? Number.NaN;
}
