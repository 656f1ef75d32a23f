import { mkdirSync, rmdirSync, writeFileSync } from "node:fs";
import { expect, onTestFinished, test } from "vitest";
import { jobMark, probeTools, runRemoteScript } from "../../../executors/remote/index.ts";
import { leftAlone, outOfMemoryNote, usedBy } from "../../../executors/remote/processes/farewell.ts";
import { never } from "../../../src/time.ts";
import { Sink } from "../../support/executor-kit.ts";
import { localCommands } from "./local.ts";

test("what an attendant says is read in each shell's way to write times, and nothing else is", () => {
  const said = (times: string): string => `\nalloy-runner used\n${times}\n\nalloy-runner left  \n`;
  expect(usedBy(said("0m0.000000s 0m0.010000s\n1m2.500000s 0m0.500000s"))).toEqual({ cpuSeconds: 63 });
  expect(usedBy(said("0m0,003s 0m0,000s\n0m1,250s 0m0,250s"))).toEqual({ cpuSeconds: 1.5 });
  for (const odd of ["", "times: not found", "0m0s 0m0s", "0m0.0s 0m0.0s\n99999999999m0.0s 0m0.0s"])
    expect(usedBy(said(odd))).toEqual({});
  expect(leftAlone(said("x"))).toBe(true);
  expect(leftAlone("\nalloy-runner left 12 13\n")).toBe(false);
  expect(outOfMemoryNote("alloy-runner killed 3 3 1048576\n", "build-07")).toBeNull();
  expect(outOfMemoryNote("alloy-runner killed 3 5 1048576\n", "build-07")).toBe(
    "Out of memory: the kernel killed 2 processes on build-07 while the script ran; it has 1.0 GiB",
  );
});

test("a script that failed while its machine was short of memory is told so", async ({ skip }) => {
  const group = `/sys/fs/cgroup/memory/alloy-farewell-${process.pid}`;
  try {
    mkdirSync(group);
    writeFileSync(`${group}/memory.limit_in_bytes`, "20M");
  } catch {
    return skip("only root, with control groups of version 1, can make a group with little memory");
  }
  onTestFinished(() => rmdirSync(group));
  const commands = localCommands(["/bin/sh"], { PATH: process.env.PATH ?? "" });
  const tools = await probeTools(commands, never);
  const output = new Sink();
  const mark = jobMark(`farewell-${process.pid}`);
  const host = { scripts: commands, commands, tools, mark, scriptDir: "", killLeftovers: true, killGraceMs: 400 };
  const text = `sh -c 'echo $$ >${group}/cgroup.procs; head -c 200000000 /dev/zero | tail -n 1 >/dev/null' || exit 7`;
  const command = { argv: ["sh"], scriptOn: "stdin", extension: ".sh" } as const;
  const script = { text, command, stage: "build_script", runIn: "build", login: false } as const;
  const exit = await runRemoteScript({ ...host, where: "build-07", isMachine: true }, script, output, never);
  expect(exit.code).toBe(7);
  expect(output.text).toMatch(
    /Out of memory: the kernel killed .* on build-07 while the script ran; it has [\d.]+ GiB/,
  );
});
