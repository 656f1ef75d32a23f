import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  type CoordinatorOptions,
  type LocalCoordinator,
  startCoordinator,
} from "../../src/local/coordinator/coordinator.ts";
import { emptyHome, type Running, type StartOptions, start } from "./program.ts";

export interface SiteOptions extends CoordinatorOptions {
  /** `[[runners]]` entries, each with a token of its own. Default: 1. */
  readonly entries?: number;
  /** Lines of config.toml above the entries, besides `state_dir`. */
  readonly global?: string;
  /** Default: shell. */
  readonly executor?: string;
  /** Lines of each entry besides name, url, token and executor. */
  readonly entry?: string;
  /** Arguments of `run` besides `--config` and `--working-directory`. */
  readonly args?: readonly string[];
  readonly run?: Partial<StartOptions>;
  /** Whether to leave the runner stopped. */
  readonly stopped?: boolean;
}

/** A coordinator, and the built runner at work for it in a directory of its own. */
export interface Site {
  readonly coordinator: LocalCoordinator;
  readonly dir: string;
  readonly workDir: string;
  readonly stateDir: string;
  readonly configFile: string;
  readonly tokens: readonly string[];
  /** The runner that was started last. */
  readonly runner: Running;
  /** Writes config.toml as `openSite` did, but with other lines. */
  configure(options: Pick<SiteOptions, "global" | "entry" | "entries">): Promise<void>;
  /** Starts the runner (again) and waits until it asks for jobs. */
  start(run?: Partial<StartOptions>, args?: readonly string[]): Promise<Running>;
  /** Ends the runner (SIGTERM, then SIGKILL when that takes a minute) and the coordinator, and removes the directory. */
  close(): Promise<void>;
}

/**
 * The allowed lines of stderr: for people, for programs, about a mistake in the arguments of `run`, and about lines
 * that a slow reader missed.
 */
const LOG_LINE =
  /^(?:\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (?:DEBUG|INFO |WARN |ERROR|FATAL) \S.*|\{"level":.*\}|alloy-runner: .*|\d+ lines of the log were dropped.*)$/;

/**
 * Lines that are not the log's: the runtime or a library printed them, or code that does not use the log. A last line
 * may be cut by SIGKILL.
 */
function strangersInLog(stderr: string): string[] {
  return stderr
    .split("\n")
    .slice(0, -1)
    .filter((line) => !LOG_LINE.test(line));
}

export async function openSite(options: SiteOptions): Promise<Site> {
  const home = await emptyHome();
  const coordinator = await startCoordinator(options);
  const { dir } = home;
  const [workDir, stateDir, configFile] = [join(dir, "work"), join(dir, "state"), join(dir, "config.toml")];
  const tokens = Array.from({ length: options.entries ?? 1 }, () => coordinator.addRunner().token);
  await mkdir(workDir);
  let runner: Running | undefined;
  const runners: Running[] = [];

  async function configure({ global = "", entry = "", entries = tokens.length }: Partial<SiteOptions>): Promise<void> {
    const parts = tokens
      .slice(0, entries)
      .map(
        (token, index) =>
          `[[runners]]\nname = "runner-${index}"\nurl = "${coordinator.url}"\ntoken = "${token}"\nexecutor = "${options.executor ?? "shell"}"\n${entry}\n`,
      );
    await writeFile(configFile, `state_dir = "${stateDir}"\n${global}\n\n${parts.join("\n")}`, { mode: 0o600 });
  }

  const site: Site = {
    coordinator,
    dir,
    workDir,
    stateDir,
    configFile,
    tokens,
    get runner() {
      if (runner === undefined) throw new Error("the runner was not started");
      return runner;
    },
    configure,
    async start(run = options.run ?? {}, args = options.args ?? []) {
      const since = Date.now();
      const asked = coordinator.waitForRequest(
        ({ endpoint, arrivedAt }) => endpoint === "job_request" && arrivedAt >= since,
      );
      asked.catch(() => {});
      const words = ["run", "--config", configFile, "--working-directory", workDir, ...args];
      const started = start(words, { home: dir, ...run });
      runner = started;
      runners.push(started);
      await Promise.race([
        asked,
        started.exit.then(({ code }) => {
          throw new Error(`the runner ended with ${code}\n${started.stderr()}`);
        }),
      ]);
      return started;
    },
    async close() {
      if (runner !== undefined) {
        const ended = runner;
        const timer = setTimeout(() => ended.child.kill("SIGKILL"), 60_000);
        await ended.stop("SIGTERM");
        clearTimeout(timer);
      }
      await coordinator.close();
      await home.dispose();
      await rm(dir, { recursive: true, force: true });
      const strange = runners.flatMap((one) => strangersInLog(one.stderr()));
      if (strange.length > 0)
        throw new Error(`The runner's stderr has lines that are none of its log:\n${strange.join("\n")}`);
    },
  };
  try {
    await configure(options);
    if (options.stopped !== true) await site.start();
    return site;
  } catch (error) {
    await site.close();
    throw error;
  }
}
