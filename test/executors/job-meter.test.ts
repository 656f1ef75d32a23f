import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { openCgroups } from "../../executors/shell/processes/cgroup.ts";
import { createJobMeter, psUsage } from "../../executors/shell/processes/job-meter.ts";
import { createProcfsTable } from "../../executors/shell/processes/procfs.ts";

const isLinux = process.platform === "linux";

test("control groups of scripts that run are added to those that have ended", async () => {
  const base = await mkdtemp(join(tmpdir(), "alloy-meter-"));
  onTestFinished(() => rm(base, { recursive: true }));
  const cgroups = openCgroups(base);
  const [first, second] = [cgroups.create("one"), cgroups.create("two")];
  if (first === null || second === null) throw new Error("no directory can be made");
  const meter = createJobMeter(createProcfsTable("/proc"), true);
  expect(await meter.usage()).toEqual({});
  const fill = async (dir: string, files: Record<string, string>): Promise<void> => {
    for (const [name, text] of Object.entries(files)) await writeFile(join(dir, name), text);
  };
  const memory = {
    "memory.current": "5000\n",
    "memory.stat": "anon 100\ninactive_file 2000\n",
    "memory.peak": "9000\n",
  };
  await fill(first.dir, { "cpu.stat": "usage_usec 1500000\n", ...memory });
  meter.group(first);
  expect(await meter.usage()).toEqual({ cpuSeconds: 1.5, peakMemoryBytes: 9000, memoryBytes: 3000 });
  meter.groupEnded(first);
  expect(await meter.usage()).toEqual({ cpuSeconds: 1.5, peakMemoryBytes: 9000 });
  await fill(second.dir, {
    "cpu.stat": "usage_usec 500000\n",
    "memory.current": "700\n",
    "io.stat": "8:0 rbytes=7 wbytes=9\n",
  });
  meter.group(second);
  expect(await meter.usage()).toEqual({
    ...{ cpuSeconds: 2, peakMemoryBytes: 9000, memoryBytes: 700 },
    ...{ readBytes: 7, writtenBytes: 9 },
  });
});

test.skipIf(!isLinux)(
  "where there are none, the shells and what they started are measured while they run",
  async () => {
    const script = "(while :; do :; done) & echo busy; read -r nothing; kill $!";
    const shell = spawn("setsid", ["sh", "-c", script], { stdio: ["pipe", "pipe", "inherit"] });
    await once(shell.stdout, "data");
    const meter = createJobMeter(createProcfsTable("/proc"), false);
    expect(await meter.usage()).toEqual({});
    meter.shell(shell.pid ?? 0);
    await expect.poll(async () => (await meter.usage()).cpuSeconds, { timeout: 20_000 }).toBeGreaterThan(0.05);
    expect((await meter.usage()).memoryBytes).toBeGreaterThan(100_000);
    shell.stdin.end("\n");
    await once(shell, "exit");
    meter.shellEnded(shell.pid ?? 0);
    expect(await meter.usage()).toEqual({});
  },
);

test("what ps says of processes is read in each of its ways to write times", () => {
  expect(psUsage("  0:01.25   1000\n 1:02:03     24\n1-00:00:01 0\n")).toEqual({
    cpuSeconds: 1.25 + 3723 + 86_401,
    memoryBytes: 1024 * 1024,
  });
  expect(psUsage("")).toEqual({});
});
