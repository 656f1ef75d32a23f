import { execFileSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test, vi } from "vitest";
import { createOutlook } from "../../executors/common/outlook.ts";
import { reasonOf } from "../../src/board/reason.ts";
import type { AdmissionConfig } from "../../src/config/config.ts";
import { Stop, SystemFailure } from "../../src/errors.ts";
import { createAdmission } from "../../src/poll/admission/admission.ts";
import { createBreaker } from "../../src/poll/admission/breaker.ts";
import { watchDisks } from "../../src/poll/admission/disks.ts";
import { never as forever } from "../../src/time.ts";
import { configOf, entryOf, executorOf, startServer, supervise } from "./setting.ts";

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function directory(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "alloy-admission-"));
  closers.push(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

async function server(reply: Parameters<typeof startServer>[0]) {
  const started = await startServer(reply);
  closers.push(() => started.close());
  return started;
}

function supervised(work: Parameters<typeof supervise>[0], more: Parameters<typeof supervise>[1] = {}) {
  const started = supervise(work, more);
  closers.push(async () => {
    started.stopping.abort(new Stop("shutting_down", "test ends"));
    await started.supervisor.drain();
  });
  const reasons = (): string[] => started.board.runners().map(({ activity }) => reasonOf(activity, Date.now()));
  return {
    ...started,
    see: (text: RegExp) => vi.waitFor(() => expect(reasons().join("\n")).toMatch(text), { timeout: 5000 }),
  };
}

const quick = { checkIntervalMs: 20 };
const admission = configOf([]).admission;
const admits = (more: Partial<AdmissionConfig>) => ({ ...quick, admission: { ...admission, ...more } });

describe("an entry whose place is not ready", () => {
  test("asks for no job until it is; the other entry does, and the log says it once", async () => {
    const { url, of, until } = await server(() => 204);
    let away = true;
    const ready = async (): Promise<void> => {
      if (away) throw new SystemFailure("the engine is away");
    };
    const { supervisor, see, lines, metrics } = supervised(async () => {}, {
      openExecutor: ({ name }) => executorOf(name === "runner a" ? { ready } : {}),
    });
    supervisor.apply(configOf([entryOf(url, "a"), entryOf(url, "b")], quick));
    await until(() => of("b").length > 5);
    expect(of("a")).toEqual([]);
    await see(/^no job could run: the engine is away\n/);
    expect(await metrics.render()).toMatch(/alloy_runner_admission_refusals_total\{.*reason="place"\} [1-9]/);
    away = false;
    await until(() => of("a").length > 1);
    const said = lines.filter((line) => /jobs? of this entry/.test(line));
    expect(said).toHaveLength(2);
    expect(said[0]).toContain("the engine is away");
    expect(said[1]).toContain("can run again");
  });

  test("a question is answered from what was seen lately, within a millisecond", async () => {
    const { log, metrics } = supervised(async () => {});
    const admission = createAdmission({
      hasRoom: async () => true,
      disk: () => ({ freeBytes: 1, minFreeBytes: 0 }),
      onRoom: () => {},
      log,
    });
    admission.configure(configOf([], admits({ maxMemoryPressure: 100, maxCpuPressure: 100 })));
    let looks = 0;
    const look = async (): Promise<void> => void looks++;
    const { ready } = createOutlook({ look, freshMs: 60_000, staleMs: 60_000, limitMs: 1000 });
    const executor = executorOf({ ready, disks: () => [tmpdir()] });
    const { id } = entryOf(new URL("http://localhost"), "a");
    const gate = admission.gate({ executor, meter: metrics.entry({ id, name: "a", limit: 1 }), log });
    const times: number[] = [];
    for (let count = 0; count < 1000; count++) {
      const began = performance.now();
      expect(await gate.admit(forever)).toHaveProperty("told");
      times.push(performance.now() - began);
    }
    expect(looks).toBe(1);
    expect(times.sort((a, b) => a - b)[500]).toBeLessThan(1);
  });
});

describe("disks", () => {
  test("one that is too full, or has too few inodes, is named until there is a tenth more than must be", async ({
    skip,
  }) => {
    const dir = await directory();
    try {
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=8m,nr_inodes=50", "tmpfs", dir], { stdio: "ignore" });
    } catch {
      return skip("only an account that may mount can make a small disk");
    }
    closers.push(async () => void execFileSync("umount", ["-l", dir]));
    const least = { bytes: 4 * 2 ** 20, inodes: 20 };
    const look = watchDisks({ least: () => least, maxAgeMs: -1 });
    const deeper = join(dir, "not", "there", "yet");
    expect(await look([tmpdir(), deeper])).toBeNull();
    await writeFile(join(dir, "large"), Buffer.alloc(5 * 2 ** 20));
    expect(await look([tmpdir(), deeper])).toMatchObject({ directory: deeper, freeBytes: 3 * 2 ** 20 });
    await writeFile(join(dir, "large"), Buffer.alloc(4 * 2 ** 20 - 4096));
    expect(await look([deeper])).not.toBeNull();
    await rm(join(dir, "large"));
    expect(await look([deeper])).toBeNull();
    for (let count = 0; count < 35; count++) await writeFile(join(dir, String(count)), "");
    expect(reasonOf({ at: "disk", ...((await look([deeper])) ?? missing()) }, 0)).toMatch(
      /^disk of .*yet: 1\d inodes free, min_free_inodes 20$/,
    );
  });

  test("where jobs of an entry work, a full one keeps that entry from asking", async () => {
    const { url, of, until } = await server(() => 204);
    const { supervisor, see } = supervised(async () => {}, {
      openExecutor: ({ name }) => executorOf(name === "runner a" ? { disks: () => ["/tmp"] } : {}),
    });
    const entries = [entryOf(url, "a"), entryOf(url, "b")];
    supervisor.apply(configOf(entries, { ...quick, minFreeDiskBytes: 2 ** 50 }));
    await until(() => of("b").length > 3);
    await see(/^disk of \/tmp: .* free, min_free_disk/);
    expect(of("a")).toEqual([]);
    supervisor.apply(configOf(entries, quick));
    await until(() => of("a").length > 0);
  });
});

describe("pressure", () => {
  const psi = (percent: number) =>
    `some avg10=${percent.toFixed(2)} avg60=0.00 avg300=0.00 total=1\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n`;

  test("beyond the limit no job is asked for, until it is well below", async () => {
    const dir = await directory();
    await writeFile(join(dir, "memory"), psi(45));
    await writeFile(join(dir, "cpu"), psi(99));
    const { url, of, until } = await server(() => 204);
    const { supervisor, see } = supervised(async () => {}, { pressureDir: dir });
    supervisor.apply(configOf([entryOf(url, "a")], admits({ maxMemoryPressure: 40 })));
    await see(/^memory: work waits for it 45 % of the time, at most 40 % \(max_memory_pressure\)$/);
    await writeFile(join(dir, "memory"), psi(35));
    await see(/waits for it 35 %/);
    expect(of("a")).toEqual([]);
    await writeFile(join(dir, "memory"), psi(31));
    await until(() => of("a").length > 0);
  });

  test("a kernel that says nothing keeps nobody from asking, and is named once", async () => {
    const { url, of, until } = await server(() => 204);
    const { supervisor, lines } = supervised(async () => {}, { pressureDir: await directory() });
    supervisor.apply(configOf([entryOf(url, "a")], admits({ maxMemoryPressure: 40, maxCpuPressure: 90 })));
    await until(() => of("a").length > 3);
    expect(lines.filter((line) => /pressure/.test(line))).toHaveLength(1);
  });
});

describe("the breaker", () => {
  test("opens after failures in a row, for longer each time, and lets one through at a time", () => {
    let now = 1000;
    const opened: number[] = [];
    const breaker = createBreaker({
      settings: () => ({ most: 3, pauseMs: 100 }),
      onOpen: (failures) => opened.push(failures),
      now: () => now,
    });
    const begin = () => {
      const begun = breaker.begin();
      if (begun === "trial" || !("told" in begun)) throw new Error("it must not ask");
      return begun;
    };
    const all = [begin(), begin(), begin(), begin()];
    all[0]?.told("failed");
    all[0]?.told("failed");
    begin().told("worked");
    for (const one of all.slice(1)) one.told("failed");
    expect(opened).toEqual([3]);
    expect(breaker.begin()).toEqual({ until: 1100, failures: 3 });
    now = 1100;
    const trial = begin();
    expect(breaker.begin()).toBe("trial");
    trial.told("unknown");
    begin().told("failed");
    expect(breaker.begin()).toEqual({ until: 1300, failures: 4 });
    now = 1300;
    begin().told("worked");
    expect([begin(), begin()]).toHaveLength(2);
    expect(opened).toEqual([3]);
  });

  test("an entry whose jobs cannot be prepared pauses, tries one, and goes on when one works", async () => {
    let broken = true;
    const { url, asked, until } = await server((_, count) => ({ job: String(count) }));
    const { supervisor, see } = supervised(async ({ board }) => {
      board.moved({ at: "preparing", attempt: 1 });
      if (broken) board.moved({ at: "finished", outcome: { result: "failed", reason: "runner_system_failure" } });
      else board.moved({ at: "running", stage: "build_script" });
    }, {});
    supervisor.apply(configOf([entryOf(url, "a")], admits({ maxSystemFailures: 3, failurePauseMs: 300 })));
    await see(/^the last 3 jobs could not be prepared; trying one at /);
    expect(asked).toHaveLength(3);
    await until(() => asked.length === 4);
    await see(/^the last 4 jobs could not be prepared; trying one at /);
    broken = false;
    await until(() => asked.length > 10);
  });

  test("failures that are the job's own do not count", async () => {
    const { url, asked, until } = await server((_, count) => ({ job: String(count) }));
    const { supervisor } = supervised(async ({ board, job }) => {
      board.moved({ at: "preparing", attempt: 1 });
      const reason = Number(job.id) % 2 === 0 ? "image_pull_failure" : "script_failure";
      board.moved({ at: "finished", outcome: { result: "failed", reason } });
    });
    supervisor.apply(configOf([entryOf(url, "a")], admits({ maxSystemFailures: 1 })));
    await until(() => asked.length > 5);
  });
});

function missing(): never {
  throw new Error("the disk should be too full");
}
