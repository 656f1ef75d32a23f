import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { AWAY, crash, filesWith, openDurableSite, steady } from "../support/durable-site.ts";
import { isAlive } from "../support/processes.ts";
import { start } from "../support/program.ts";

const onLinux = process.platform === "linux" && process.geteuid?.() === 0;
const SECRET = "hush-4711-hush-4711";

const secretly = { variables: [{ key: "SECRET", value: SECRET, masked: true, public: false }] };
const until = (file: string): string => `until [ -e ${file} ]; do sleep 0.05; done`;

/** A small file system in memory, until the test ends. */
function smallDisk(dir: string, size: string): void {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  execFileSync("mount", ["-t", "tmpfs", "-o", `size=${size},mode=0700,huge=never`, "tmpfs", dir]);
  onTestFinished(() => void execFileSync("umount", ["-l", dir]));
}

/** Takes all room of a disk. */
function fill(file: string): void {
  for (const size of ["64k", "1"])
    spawnSync("dd", ["if=/dev/zero", `of=${file}`, "oflag=append", "conv=notrunc", `bs=${size}`]);
}

/** Commands that start a program, in a mount namespace of its own, once `setup` was run there. */
function within(setup: string): readonly string[] {
  return ["unshare", "--mount", "--propagation", "private", "sh", "-c", `${setup} && exec "$@"`, "-"];
}

/** A clock that is another than the machine's, for programs that ask the C library. */
function clockOff(days: string): Readonly<Record<string, string>> {
  const library = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
  ];
  const found = library.find((path) => existsSync(path));
  if (found === undefined) throw new Error("faketime is missing");
  return { LD_PRELOAD: found, FAKETIME: days, FAKETIME_DONT_FAKE_MONOTONIC: "1" };
}

describe.runIf(onLinux)("jobs whose runner was killed", () => {
  test("are not gone on with after another start of the machine, and nothing of them is signalled", {
    timeout: 60_000,
  }, async () => {
    const here = await openDurableSite({ dialect: "gitlab", global: "concurrent = 2" });
    const { coordinator, dir, stateDir } = here;
    const job = coordinator.enqueue({ script: ["echo shell $$; sleep 600"], ...secretly });
    await job.traceContains("shell ");
    await crash(here);
    const shell = Number(/^shell (\d+)$/m.exec(job.trace)?.[1]);
    expect(isAlive(shell)).toBe(true);
    onTestFinished(() => void process.kill(-shell, "SIGKILL"));
    const bootId = join(dir, "boot-id");
    writeFileSync(bootId, "11111111-2222-3333-4444-555555555555\n");
    await here.start({ under: within(`mount --bind ${bootId} /proc/sys/kernel/random/boot_id`) });
    await job.finished();
    expect(job.failureReason).toBe("runner_system_failure");
    expect(job.trace).toMatch(/the runner died while this job ran \(the machine was restarted/);
    expect(isAlive(shell)).toBe(true);
    await expect.poll(() => readdirSync(join(stateDir, "jobs"))).toEqual([]);
    expect(filesWith([stateDir, "/run/alloy-runner"], [SECRET])).toEqual([]);
  });

  for (const days of ["-1d", "+1d"]) {
    test(`go on whatever the clock is set to: ${days}`, { timeout: 60_000 }, async () => {
      const here = await openDurableSite({ dialect: "gitlab", global: "concurrent = 3" });
      const { coordinator, dir } = here;
      const go = join(dir, "go");
      const work = {
        script: ["echo begun", until(go), "echo over $SECRET; exit 3"],
        afterScript: ["echo afterwards"],
        ...secretly,
      };
      writeFileSync(go, "");
      const usual = coordinator.enqueue({ ...work, timeoutSeconds: 60 });
      await usual.finished();
      rmSync(go);
      const job = coordinator.enqueue({ ...work, timeoutSeconds: 60 });
      const late = coordinator.enqueue({ script: ["echo begun; sleep 600"], timeoutSeconds: 8 });
      await Promise.all([job, late].map((one) => one.traceContains("begun")));
      await crash(here);
      await here.start({ home: dir, env: clockOff(days) });
      await here.runner.seen(/a job of an earlier process goes on/);
      expect(here.runner.stderr().slice(0, 10)).not.toBe(new Date().toISOString().slice(0, 10));
      writeFileSync(go, "");
      await job.finished();
      expect(steady(job.trace)).toBe(steady(usual.trace));
      const [said = ""] = job.trace.match(AWAY) ?? [];
      expect(Number(/away for ([\d.]+) s/.exec(said)?.[1])).toBeLessThan(10);
      await late.finished();
      expect(late.failureReason).toBe("job_execution_timeout");
      expect((late.finishedAt ?? 0) - (late.pickedUpAt ?? 0)).toBeGreaterThan(7500);
    });
  }

  test("lose a read where memory for output is full, and go on where the state's disk was", {
    timeout: 90_000,
  }, async () => {
    const here = await openDurableSite({
      dialect: "gitlab",
      global: 'concurrent = 3\nmin_free_disk = "1MiB"',
      stopped: true,
    });
    const { coordinator, dir, stateDir } = here;
    const memory = join(dir, "memory");
    smallDisk(stateDir, "24m");
    smallDisk(memory, "48m");
    const run = { home: dir, under: within(`mount --bind ${memory} /run`) };
    await here.start(run);
    const [go, full, over] = ["go", "full", "over"].map((name) => join(dir, name));
    const job = coordinator.enqueue({
      script: [
        "echo begun",
        until(go ?? ""),
        `touch ${full}; seq 1 20000; echo roomy`,
        until(over ?? ""),
        "echo over $SECRET; exit 3",
      ],
      ...secretly,
    });
    await job.traceContains("begun");
    await crash(here);
    fill(join(memory, "filler"));
    fill(join(stateDir, "filler"));
    writeFileSync(go ?? "", "");
    await expect.poll(() => existsSync(full ?? "")).toBe(true);
    const place = join(memory, "alloy-runner");
    const lost = readdirSync(place, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith("/lost"));
    await expect
      .poll(() => lost.map((name) => readFileSync(join(place, name), "utf8").trim()).join(""))
      .toMatch(/ full$/);

    // It cannot work there, and leaves all as it is.
    const words = ["run", "--config", here.configFile, "--working-directory", here.workDir];
    const hopeless = start(words, run);
    expect((await hopeless.exit).code).toBe(1);
    expect(hopeless.stderr()).toContain(`state_dir ${stateDir} cannot be used: ENOSPC`);
    rmSync(join(stateDir, "filler"));
    rmSync(join(memory, "filler"));
    await here.start(run);
    writeFileSync(over ?? "", "");
    await job.finished();
    expect(job.trace).toContain("roomy\n");
    expect(job.trace).toContain("over [MASKED]");
    expect(job.trace.match(/\[at most 65536 bytes of output were lost: no space in \/run\/alloy-runner/g)).toHaveLength(
      1,
    );
    expect([job.status, job.exitCode]).toEqual(["failed", 3]);
  });

  for (const [what, script, end] of [
    ["success", "exit 0", "success"],
    ["failure", "exit 4", "failed"],
    ["burial", "kill -9 $PPID; sleep 600", "failed"],
  ] as const) {
    test(`leave nothing of their secrets after a ${what}`, { timeout: 60_000 }, async () => {
      const here = await openDurableSite({ dialect: "gitlab", global: "concurrent = 2" });
      const { coordinator, dir, stateDir } = here;
      const go = join(dir, "go");
      const file = "file-4712-file-4712";
      const job = coordinator.enqueue({
        script: ["echo begun; echo of $SECRET; cat $FILE; seq 1 2000", until(go), `echo again $SECRET; ${script}`],
        variables: [...secretly.variables, { key: "FILE", value: file, masked: true, public: false, file: true }],
      });
      await job.traceContains("begun");
      const places = [stateDir, "/run/alloy-runner"];
      const kept = [SECRET, file];
      await crash(here);
      // What waits to be read is where only root may read it.
      const early = filesWith(places, kept).filter((path) => !/\/\d+\/o\.\d{13}$/.test(path));
      expect(early).toEqual([]);
      await here.start();
      writeFileSync(go, "");
      await job.finished();
      expect(job.status).toBe(end);
      await expect.poll(() => readdirSync(join(stateDir, "jobs"))).toEqual([]);
      expect(filesWith(places, [...kept, job.token])).toEqual([]);
      expect(filesWith([here.workDir], kept)).toEqual([]);
      expect(job.trace).not.toMatch(new RegExp(`${SECRET}|${file}`));
      expect(here.runner.stderr()).not.toMatch(new RegExp(`${SECRET}|${file}`));
    });
  }
});
