import { randomBytes } from "node:crypto";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import type { JobSpec, LocalJob } from "../../src/local/coordinator/jobs/job.ts";

export const SECRET = "hush-4711-hush-4711";
const AWAY = /The runner was restarted \(away for \d+\.\d s\); the job went on and is followed again/;

/** How often a trace says that another process has taken its job over. */
export const awayIn = (trace: string): number => trace.split("\n").filter((line) => AWAY.test(line)).length;

/** From the job's place on, without what differs from run to run. */
function steady(trace: string): string {
  const lines = trace.slice(trace.indexOf("Running on ")).split("\n");
  return (
    lines
      .filter((line) => !AWAY.test(line))
      .join("\n")
      .replace(/section_(start|end):\d+:/g, "section_$1:0:")
      // The line that says so stands by itself, also between sections.
      .replace(/(section_end:0:\w+\r\x1b\[0K)\n/g, "$1")
      .replace(/Running on .*/, "running")
      .replace(/(Used|Took) .*/g, "used")
      .replace(/Uploading artifacts as .*/g, "uploading")
      .replace(/\d+\.\d+ [kM]?i?B/g, "bytes")
  );
}

/** What jobs leave in a directory is seen by the test, and the other way round. */
export interface Gates {
  readonly dir: string;
  /** A name that nobody has. */
  gate(): string;
  open(gate: string): void;
  /** Shell that waits until it is open. */
  until(gate: string): string;
  /** What a file there says. */
  read(name: string): string;
  close(): void;
}

/** @param seenAs as which directory jobs see it. Default: the same */
export function openGates(seenAs?: string): Gates {
  const dir = mkdtempSync(join(tmpdir(), "alloy-gates-"));
  chmodSync(dir, 0o777);
  const there = seenAs ?? dir;
  return {
    dir,
    gate: () => `gate-${randomBytes(4).toString("hex")}`,
    open: (gate) => writeFileSync(join(dir, gate), ""),
    until: (gate) => `until [ -e ${there}/${gate} ]; do sleep 0.05; done`,
    read: (name) => readFileSync(join(dir, name), "utf8"),
    close: () => rmSync(dir, { recursive: true, force: true }),
  };
}

/** A job with all that jobs have, whose script goes on until the gate `over` is open, and at least for so many lines. */
export function wholeJob(name: string, over: string, seenAs: string, git: NonNullable<JobSpec["git"]>) {
  return {
    name,
    git,
    cache: { key: "k", paths: [".cached"] },
    script: [
      `echo x >>${seenAs}/${name}.starts; cat README; mkdir -p out .cached; echo kept >.cached/file`,
      // Pieces of lines, of characters and of secrets.
      `n=0; until [ -e ${seenAs}/${over} ] && [ $n -ge 300 ]; do printf "$n hush-4711-"; [ $((n % 20)) != 7 ] || sleep 0.1; echo "hush-4711 ünd"; n=$((n + 1)); done; echo $n >${seenAs}/${name}.lines`,
      "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo made >out/file; exit 3",
    ],
    afterScript: [`echo y >>${seenAs}/${name}.starts; echo afterwards $CI_JOB_STATUS`],
    artifacts: { paths: ["out/"], when: "always" },
    variables: [
      { key: "SECRET", value: SECRET, masked: true, public: false },
      // The same words, whether a place keeps what the job before has checked out or not.
      { key: "GIT_STRATEGY", value: "clone" },
    ],
  } satisfies JobSpec;
}

/** It ran once, ended as its script did, and its trace is, byte for byte, what an undisturbed run of it gives. */
export function expectWhole(job: LocalJob, usual: string, { read }: Gates): void {
  const { name } = job;
  const lines = Number(read(`${name}.lines`));
  const printed = (count: number): string => Array.from({ length: count }, (_, n) => `${n} [MASKED] ünd\n`).join("");
  const frame = (trace: string): string => steady(trace).replace(/(?:\d+ \[MASKED\] ünd\n)+/, "lines\n");
  expect(steady(job.trace).includes(`\n${printed(lines)}`), job.trace.slice(0, 20_000)).toBe(true);
  // The names of the job's own files differ.
  const named = (trace: string): string => frame(trace).replace(/(?:[a-z]{1,12}-(?:\d+-)?)?gate-\w+/g, "its");
  expect(named(job.trace)).toBe(named(usual));
  expect(job.trace).not.toContain(SECRET);
  expect([job.status, job.exitCode]).toEqual(["failed", 3]);
  expect(read(`${name}.starts`)).toBe("x\ny\n");
}
