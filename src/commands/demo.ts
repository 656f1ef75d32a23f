import { type ChildProcess, spawn } from "node:child_process";
import { createWriteStream } from "node:fs";
import { mkdir, mkdtemp, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CommandError, Stop } from "../errors.ts";
import { removeTree } from "../files/remove-tree.ts";
import { startCoordinator } from "../local/coordinator/coordinator.ts";
import { loadCiFile } from "../local/pipeline/ci-file.ts";
import { runPipeline } from "../local/pipeline/pipeline.ts";
import { createSampleProject } from "../local/sources/project.ts";
import { deadline, never } from "../time.ts";
import type { CommandContext } from "./context.ts";
import type { FlagValues } from "./register/runner-flags.ts";

/** How long the demo's runner may take to end once its work is done. */
const RUNNER_END_MS = 15_000;

/**
 * `alloy-runner demo`: everything that the runner is for, on this machine. A small coordinator on loopback, a sample project,
 * a runner that is registered and run by this very program, its pipeline with its live trace, a summary. All of it lives in
 * one temporary directory, which is removed.
 * @returns the exit status: 0 when the pipeline succeeded
 */
export async function demoCommand(values: FlagValues, context: CommandContext): Promise<number> {
  const { signal, say } = context;
  const dir = await mkdtemp(join(tmpdir(), "alloy-runner-demo-"));
  const coordinator = await startCoordinator({ dialect: "alloy", record: false, secret: true });
  const config = join(dir, "config.toml");
  const logFile = join(dir, "runner.log");
  let runner: ChildProcess | undefined;
  try {
    const project = await createSampleProject(join(dir, "hello"), signal);
    say(`A coordinator listens on ${coordinator.url}; the sample project is ${project.dir}`);
    await mkdir(join(dir, "work"));
    await writeFile(config, `concurrent = 4\nstate_dir = ${JSON.stringify(join(dir, "state"))}\n`, { mode: 0o600 });
    const registration = ["register", "--non-interactive", "--config", config];
    const what = ["--name", "demo", "--executor", "shell"];
    say(
      `$ alloy-runner ${[...registration, "--url", coordinator.url, "--registration-token", "…", ...what].join(" ")}`,
    );
    await finish(
      startSelf([...registration, ...what], context, {
        CI_SERVER_URL: coordinator.runnerUrl,
        REGISTRATION_TOKEN: coordinator.registrationToken,
      }),
      say,
    );
    const run = ["run", "--config", config, "--working-directory", join(dir, "work")];
    say(`$ alloy-runner ${run.join(" ")}\n`);
    const started = startSelf(run, context, {});
    runner = started;
    started.stderr?.pipe(createWriteStream(logFile));

    const result = await withRunner(started, logFile, async (ended) => {
      const file = await loadCiFile(project.dir);
      return await runPipeline(
        {
          coordinator,
          file,
          project: { repoUrl: project.dir, sha: project.sha, ref: project.ref, name: "hello" },
          output: context.output,
          colors: process.stdout.isTTY === true && !context.env.NO_COLOR,
          secrets: project.secrets,
          timeoutSeconds: 120,
        },
        AbortSignal.any([signal, ended]),
      );
    });
    if (signal.aborted) throw signal.reason;
    return result.success ? 0 : 1;
  } finally {
    if (runner !== undefined) await endRunner(runner);
    await coordinator.close();
    if (values.keep === true) say(`Configuration, sources and logs stay in ${dir}`);
    else {
      await removeTree(dir);
      say("The runner has ended, and everything it made is removed.");
    }
  }
}

/** Starts this program once more, with `args`. */
function startSelf(
  args: readonly string[],
  { env }: CommandContext,
  extra: Readonly<Record<string, string>>,
): ChildProcess {
  // A compiled program is its own command; Node needs to be told which program it is.
  const compiled = /^(\/\$bunfs\/|B:[\\/]~BUN)/.test(process.argv[1] ?? "");
  const program = compiled || process.argv[1] === undefined ? [] : [process.argv[1]];
  // Settings that people have for their own runner, or for the runtime, must not reach the demo's runner.
  const kept = Object.entries(env).filter(
    ([name]) =>
      !/^(CONFIG_FILE|CI_SERVER_|REGISTER_|REGISTRATION_|RUNNER_|LISTEN_ADDRESS|METRICS_SERVER|NOTIFY_SOCKET|NODE_OPTIONS|BUN_|.*_proxy$)/i.test(
        name,
      ),
  );
  return spawn(process.execPath, [...program, ...args], {
    env: { ...Object.fromEntries(kept), ...extra },
    // The child has a process group of its own: Ctrl-C reaches only the demo, which then ends its runner in good order.
    detached: true,
    stdio: ["ignore", "ignore", "pipe"],
  });
}

/**
 * Waits for a short command and passes on what it prints.
 * @throws {CommandError} it failed
 */
async function finish(child: ChildProcess, say: (text: string) => void): Promise<void> {
  let text = "";
  child.stderr?.setEncoding("utf8").on("data", (part: string) => {
    text += part;
  });
  const code = await exitOf(child);
  if (code !== 0) throw new CommandError(`registering the demo's runner failed:\n${text}`);
  say(text.trimEnd());
}

/** `body` with a signal that fires when the runner ends too early; its log is then part of the error. */
async function withRunner<T>(
  runner: ChildProcess,
  logFile: string,
  body: (ended: AbortSignal) => Promise<T>,
): Promise<T> {
  const ended = new AbortController();
  const onExit = (): void => ended.abort(new Stop("shutting_down", "the demo's runner ended too early"));
  runner.once("exit", onExit);
  try {
    const result = await body(ended.signal);
    if (ended.signal.aborted) {
      throw new CommandError(`the demo's runner ended too early:\n${await readFile(logFile, "utf8").catch(() => "")}`);
    }
    return result;
  } finally {
    runner.off("exit", onExit);
  }
}

async function endRunner(runner: ChildProcess): Promise<void> {
  const exit = exitOf(runner);
  runner.kill("SIGTERM");
  using limit = deadline(never, RUNNER_END_MS, new Stop("timed_out", "the demo's runner does not end"));
  limit.signal.addEventListener("abort", () => runner.kill("SIGKILL"), { once: true });
  await exit;
}

function exitOf(child: ChildProcess): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve(child.exitCode);
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
}
