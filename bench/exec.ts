import { execFileSync, spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { footprint } from "../test/support/memory.ts";
import { program } from "../test/support/program.ts";
import { type Figure, median } from "./scene.ts";

/** `exec` beside gitlab-ci-local, which needs rsync: the same project, turn by turn, so that a busy machine is busy for both. */

const ROUNDS = 7;
const PEER = join(import.meta.dirname, "../node_modules/gitlab-ci-local/dist/index.js");
const MARK = "the first line of the first job";

interface Measured {
  readonly firstLineMs: number;
  readonly wholeMs: number;
  readonly peakMb: number;
}

/** @param argv the program with all its arguments */
async function measured(argv: readonly string[], dir: string, home: string): Promise<Measured> {
  const [command = "", ...args] = argv;
  const begun = performance.now();
  const child = spawn(command, args, { cwd: dir, env: { PATH: process.env.PATH ?? "", HOME: home } });
  let output = "";
  let firstLineMs = Number.NaN;
  let peakMb = 0;
  const look = (): void => {
    try {
      const now = footprint(child.pid ?? 0).peakMb;
      // A process that has ended and was not waited for has no memory left to tell of.
      if (Number.isFinite(now)) peakMb = Math.max(peakMb, now);
    } catch {
      // It has ended; what it had is known from the last look.
    }
  };
  const timer = setInterval(look, 20);
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => {
      output += text;
      // The command is echoed before it runs, so the line itself has to be met.
      if (Number.isNaN(firstLineMs) && output.includes(`[${MARK}]`)) firstLineMs = performance.now() - begun;
      look();
    });
  const code = await new Promise((resolve) => child.on("close", resolve));
  clearInterval(timer);
  if (code !== 0) throw new Error(`${command} ended with ${code}:\n${output}`);
  return { firstLineMs, wholeMs: performance.now() - begun, peakMb };
}

async function inProject<T>(files: string, body: (dir: string, home: string) => Promise<T>): Promise<T> {
  const home = await mkdtemp(join(tmpdir(), "alloy-bench-exec-"));
  const dir = join(home, "project");
  try {
    const git = (...args: string[]): void =>
      void execFileSync("git", ["-C", dir, "-c", "user.name=a", "-c", "user.email=a@example.com", ...args]);
    execFileSync("git", ["init", "--quiet", "--initial-branch=main", dir]);
    await writeFile(join(dir, ".gitlab-ci.yml"), files);
    git("remote", "add", "origin", "git@git.example.com:group/project.git");
    git("add", ".");
    git("commit", "--quiet", "-m", "one");
    return await body(dir, home);
  } finally {
    await rm(home, { recursive: true, force: true });
  }
}

async function beside(
  text: string,
  own: readonly string[],
  peer: readonly string[],
): Promise<readonly [Measured[], Measured[]]> {
  return await inProject(text, async (dir, home) => {
    const ours: Measured[] = [];
    const theirs: Measured[] = [];
    for (let round = 0; round <= ROUNDS; round++) {
      const here = await measured([...program(), "exec", ...own], dir, home);
      const there = await measured([process.execPath, PEER, ...peer], dir, home);
      // The first round fills the disk's cache.
      if (round > 0) {
        ours.push(here);
        theirs.push(there);
      }
    }
    return [ours, theirs];
  });
}

export async function execBesidePeer(): Promise<readonly Figure[]> {
  const say = `script: ["echo [$MARK]"], variables: {MARK: "${MARK}"}`;
  const [first, peerFirst] = await beside(`j: {${say}}\n`, [], []);
  const many = Array.from({ length: 40 }, (_, index) => `j${index}: {${say}}\n`).join("");
  const [all, peerAll] = await beside(many, ["-j", "2"], ["--concurrency", "2"]);
  const of = (list: readonly Measured[], key: keyof Measured): number => median(list.map((one) => one[key]));
  const row = (name: string, value: number, peer: number, target: number, unit: string): Figure[] => [
    {
      name: `${name}, of gitlab-ci-local's ${peer.toFixed(0)} ${unit}`,
      value: value / peer,
      unit: "×",
      target,
      bound: "at most",
    },
  ];
  return [
    ...row("exec: command to the job's first line", of(first, "firstLineMs"), of(peerFirst, "firstLineMs"), 0.5, "ms"),
    ...row("exec: 40 small jobs at -j 2", of(all, "wholeMs"), of(peerAll, "wholeMs"), 0.6, "ms"),
    ...row("exec: most memory of 40 jobs", of(all, "peakMb"), of(peerAll, "peakMb"), 1, "MB"),
    await planning(),
  ];
}

/** A file of 5,000 lines and 500 jobs. */
async function planning(): Promise<Figure> {
  const job = (index: number): string => `job-${index}:
  extends: .base
  stage: ${["build", "test", "deploy"][Math.floor((index * 3) / 500)]}
  variables:
    N: "${index}"
  script:
    - echo job ${index} $B
  rules:
    - if: '$CI_COMMIT_BRANCH == "main" || $CI_PIPELINE_SOURCE == "push"'
  artifacts: {paths: [out]}
`;
  const text = `stages: [build, test, deploy]\n.base: {image: "alpine:3", cache: {key: k, paths: [c]}, before_script: [echo before]}\n${Array.from({ length: 500 }, (_, index) => job(index)).join("")}`;
  const times = await inProject(text, async (dir, home) => {
    const found: number[] = [];
    for (let round = 0; round < ROUNDS; round++)
      found.push((await measured([...program(), "exec", "--list", "--json"], dir, home)).wholeMs);
    return found;
  });
  return {
    name: "exec: 5,000 lines and 500 jobs read and planned",
    value: median(times),
    unit: "ms",
    target: 600,
    bound: "at most",
  };
}
