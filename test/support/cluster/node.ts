import { execFile } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { ownEnvironment } from "../built.ts";

const script = join(import.meta.dirname, "cluster.sh");

/** The parts of a cluster; each is started again by itself 0.3 s after it was killed. */
export type Part = "apiserver" | "containerd" | "controller-manager" | "etcd" | "kubelet" | "proxy" | "scheduler";

/** One cluster of this machine, as cluster.sh runs it. */
export interface Node {
  readonly number: number;
  /** The folder of its settings, logs and data. */
  readonly state: string;
  readonly snapshotter: string;
  /** Runs cluster.sh for this node; returns its output. */
  run(...args: readonly string[]): Promise<string>;
  /** containerd's client. */
  ctr(...args: readonly string[]): Promise<string>;
}

function stateOf(number: number): string {
  return `/tmp/alloy-test-cluster-${number}`;
}

export function nodeAt(number: number): Node {
  const state = stateOf(number);
  const run: Node["run"] = (...args) =>
    outputOf("bash", [script, ...args], { ...ownEnvironment(), ALLOY_TEST_CLUSTER: String(number) });
  return {
    number,
    state,
    get snapshotter() {
      return /^snapshotter=(\w+)$/m.exec(readFileSync(join(state, "words.sh"), "utf8"))?.[1] ?? "overlayfs";
    },
    run,
    ctr: (...args) => run("ctr", ...args),
  };
}

/** A node that does not exist yet, with a number that nobody else uses while this process lives. */
export async function reserveNode(): Promise<Node> {
  return nodeAt(Number(await nodeAt(0).run("reserve", String(process.pid))));
}

/**
 * Waits until the cluster that another process has begun to start is up. `false`: no process has begun.
 * @throws {Error} it could not be built or booted; with the end of the log
 */
export async function started(number: number): Promise<boolean> {
  const state = stateOf(number);
  const starting = `${state}.starting`;
  for (;;) {
    // The order matters: the process that starts it may end in between.
    const starter = await readFile(starting, "utf8").catch(() => null);
    const starts = starter !== null && existsSync(`/proc/${starter.trim()}`);
    if (existsSync(join(state, "ready"))) return true;
    if (starter === null) return false;
    if (!starts) {
      const log = await readFile(`${state}.log`, "utf8").catch(() => "");
      throw new Error(`the test cluster has not started:\n${log.slice(-8000)}`);
    }
    await wait(200);
  }
}

export function outputOf(
  program: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  input?: string,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(program, args, { env, maxBuffer: 2 ** 26 }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new Error(`${[program, ...args].join(" ")}: ${stderr || error.message}`, { cause: error }));
    });
    child.stdin?.end(input);
  });
}
