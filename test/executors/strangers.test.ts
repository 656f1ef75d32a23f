import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { describe, expect, onTestFinished, test } from "vitest";
import { createProcfsTable } from "../../executors/shell/processes/procfs.ts";
import { endMembers, findMembers, signalSession } from "../../executors/shell/processes/tree.ts";
import { MARK } from "../../executors/shell/recover.ts";
import { never } from "../../src/time.ts";
import { Sink, sampleRequest, scriptOf, source } from "../support/executor-kit.ts";
import { isAlive } from "../support/processes.ts";
import { opened, preparedIn } from "./shell-stand.ts";

const OTHER = `${MARK}=another-job`;

interface Session {
  /** Of the session, which was its founder's. */
  readonly number: number;
  readonly member: number;
}

/**
 * A session of somebody else's with one process besides its founder.
 * @param founder `ended`: whoever has its number means another session by it
 */
async function session(founder: "runs" | "ended", mark?: string): Promise<Session> {
  const stay = founder === "runs" ? "; read -r nothing" : "";
  const child = spawn("sh", ["-c", `sleep 600 >/dev/null 2>&1 & echo $!${stay}`], {
    detached: true,
    stdio: ["pipe", "pipe", "ignore"],
    env: { PATH: process.env.PATH, ...(mark === undefined ? {} : Object.fromEntries([mark.split("=")])) },
  });
  const exit = once(child, "exit");
  const [line]: unknown[] = await once(child.stdout, "data");
  if (founder === "ended") await exit;
  const member = Number(String(line));
  onTestFinished(() => {
    process.kill(member, "SIGKILL");
    child.kill("SIGKILL");
  });
  return { number: child.pid ?? -1, member };
}

describe.runIf(process.platform === "linux")("numbers of processes that are others' by now", () => {
  const ends = { "whose end nobody has seen": " ".repeat(32), "that has ended": `${"0".padEnd(31)}\n` };
  const strangers = {
    "sessions whose founders have ended": () => session("ended"),
    "sessions that go on": () => session("runs"),
    "scripts of another job": () => session("runs", OTHER),
  };
  // In another container, or where the clock is another, these are older than the script is said to be.
  const starts = { "younger than it": 1, "older than it": 10 ** 14 };
  for (const [what, code] of Object.entries(ends)) {
    for (const [whose, begin] of Object.entries(strangers)) {
      for (const [age, startedAt] of Object.entries(starts)) {
        test(`a script ${what}: its numbers are of ${whose}, ${age}`, async () => {
          const { dir, executor } = opened({ durable: true, killGraceMs: 300 });
          const jobKey = `test-${process.pid}-numbers`;
          const environment = await preparedIn(executor, { ...sampleRequest(), jobKey });
          const [shell, attendant] = [await begin(), await begin()];
          const directory = join(dir, "run", jobKey, "0");
          mkdirSync(directory, { recursive: true, mode: 0o700 });
          writeFileSync(join(directory, "root"), `${`${shell.number} ${startedAt} ${attendant.number}`.padEnd(63)}\n`);
          writeFileSync(join(directory, "code"), code);
          writeFileSync(join(directory, "end"), " ".repeat(32));
          execFileSync("mkfifo", [join(directory, "life")]);
          const place = { kind: "shell-script", directory, windowBytes: 1_048_576 };
          const keeping = {
            ...{ begins: () => {}, settled: () => 0, say: () => {}, ended: async () => {} },
            resume: { place, from: 0 },
          };
          const ended = environment.run({ ...scriptOf(environment, source("echo never")), keeping }, new Sink(), never);
          if (code.trim() === "") await expect(ended).rejects.toThrow("the process that waited for it was killed");
          else expect((await ended).code).toBe(0);
          await environment.destroy(never);
          expect([shell, attendant].map(({ member }) => isAlive(member))).toEqual([true, true]);
        });
      }
    }
  }

  test("a session is signalled for what of it carries the job's mark, and for nothing else", async () => {
    const table = createProcfsTable("/proc");
    const own = `${MARK}=this-job`;
    const [mine, other, plain] = [await session("ended", own), await session("runs", OTHER), await session("ended")];
    for (const { number } of [mine, other, plain]) await signalSession(table, number, own, "SIGKILL");
    await expect.poll(() => isAlive(mine.member)).toBe(false);
    expect([other, plain].map(({ member }) => isAlive(member))).toEqual([true, true]);
  });

  test("what came into the session of a shell's number after the shell's end is none of the script's", async () => {
    const table = createProcfsTable("/proc");
    const before = table.byNow();
    // Start times are told in ticks, and both looks at the clock allow for some.
    await wait(400);
    const other = await session("ended");
    const belonging = { table, mark: `${MARK}=this-job`, uid: null, since: 1, cgroup: null };
    const leader = { pid: other.number, startedAt: 1 };
    expect(await findMembers({ ...belonging, leader: { ...leader, endedBy: before } })).toEqual([]);
    await endMembers({
      belonging: { ...belonging, leader: { ...leader, endedBy: before } },
      graceMs: 10,
      limitMs: 1000,
    });
    expect(isAlive(other.member)).toBe(true);
    // Of a shell that ends only now it is.
    const its = await findMembers({ ...belonging, leader: { ...leader, endedBy: table.byNow() } });
    expect(its.map(({ pid }) => pid)).toEqual([other.member]);
  });
});
