import { execFileSync } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { emptyHome, type Running, runProgram, start } from "./program.ts";

interface More {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

/** A person's project in a home directory of its own, and calls of `exec` in it. */
export interface Project {
  readonly home: string;
  readonly dir: string;
  /** Directory in which `exec` keeps its files for this person. */
  readonly base: string;
  git(...args: string[]): string;
  ciFile(text: string): Promise<void>;
  exec(args: readonly string[], more?: More): Promise<{ code: number | null; stdout: string; stderr: string }>;
  /** Starts `exec` and leaves it running; `close` ends it at the latest. */
  begin(args?: readonly string[], more?: More): Running;
  close(): Promise<void>;
}

export async function openProject(): Promise<Project> {
  const home = await emptyHome();
  const dir = join(home.dir, "project");
  await mkdir(dir);
  const running: Running[] = [];
  return {
    home: home.dir,
    dir,
    base: join(home.dir, ".cache/alloy-runner/exec"),
    git(...args) {
      const who = ["-c", "user.name=a", "-c", "user.email=a@example.com"];
      return execFileSync("git", ["-C", dir, ...who, ...args], {
        env: { PATH: process.env.PATH, HOME: home.dir },
        encoding: "utf8",
        stdio: ["ignore", "pipe", "pipe"],
      });
    },
    ciFile: async (text) => await writeFile(join(dir, ".alloy-ci.yml"), text),
    exec: async (args, { env = {}, cwd = dir } = {}) =>
      await runProgram(["exec", ...args], { home: home.dir, cwd, env }),
    begin(args = [], { env = {}, cwd = dir } = {}) {
      const one = start(["exec", ...args], { home: home.dir, cwd, env });
      running.push(one);
      return one;
    },
    async close() {
      for (const one of running) await one.stop("SIGKILL");
      // A job may have made directories that nobody may write to.
      execFileSync("chmod", ["-R", "u+rwX", home.dir]);
      await home.dispose();
    },
  };
}

/** What the job `name` printed, its prefix taken off. */
export function linesOf(name: string, stdout: string): string[] {
  return stdout.split("\n").flatMap((line) => {
    const [prefix = "", ...rest] = line.split("│ ");
    return prefix.trim() === name && rest.length > 0 ? [rest.join("│ ")] : [];
  });
}
