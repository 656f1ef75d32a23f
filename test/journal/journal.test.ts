import { spawn } from "node:child_process";
import { once } from "node:events";
import { access, cp, mkdir, readdir, readFile, rm, stat, symlink, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { expect, test } from "vitest";
import type { FinalReport, LeftoverJob } from "../../src/journal/contract.ts";
import { encodeLine } from "../../src/journal/records/record-lines.ts";
import { openState, recordingLog, storedJob, temporaryDirectory } from "./support.ts";

const report: FinalReport = { state: "failed", reason: "script_failure", exitCode: 3, at: "2026-01-02T03:04:05.000Z" };

/** What the next start finds in the directory. */
async function nextStart(path: string): Promise<{ leftovers: readonly LeftoverJob[]; lines: string[] }> {
  const log = recordingLog();
  const { journal, close } = await openState(path, log);
  const leftovers = journal.leftovers();
  await close();
  return { leftovers, lines: log.lines };
}

test("an accepted job, its notes and its verdict are there after a restart", async () => {
  const path = await temporaryDirectory();
  const { journal, close } = await openState(path);
  const stored = storedJob({ token: "geheim ✓ \n\u0000", title: "Ä / \u2028" });
  const record = await journal.accept(stored);
  expect((await stat(record.tracePath)).size).toBe(0);
  expect((await stat(record.tracePath)).mode & 0o777).toBe(0o600);
  await Promise.all([record.remember({ kind: "a", pids: ["1", "2"] }), record.remember({ kind: "b", flag: true })]);
  record.acknowledged(17);
  record.acknowledged(12);
  await close();
  const [running] = (await nextStart(path)).leftovers;
  expect(running).toMatchObject({
    notes: [
      { kind: "a", pids: ["1", "2"] },
      { kind: "b", flag: true },
    ],
    acknowledged: 17,
  });
  expect(running?.record.stored).toEqual(stored);
  expect(running?.record.report).toBeNull();

  const second = await openState(path);
  const again = second.journal.leftovers()[0]?.record;
  await again?.finish(report);
  await expect(again?.finish({ ...report, state: "success" })).rejects.toThrow("has its verdict already");
  await second.close();
  const { leftovers, lines } = await nextStart(path);
  expect(leftovers.map(({ record: { report: kept } }) => kept)).toEqual([report]);
  expect(lines).toEqual([]);

  const third = await openState(path);
  await third.journal.leftovers()[0]?.record.remove();
  expect(await readdir(join(path, "jobs"))).toEqual([]);
});

test("jobs come back oldest first, and a removal that was cut off is finished", async () => {
  const path = await temporaryDirectory();
  const { journal, close } = await openState(path);
  const jobs = [storedJob(), storedJob(), storedJob()];
  for (const job of [...jobs].reverse()) await journal.accept(job);
  await mkdir(join(path, "jobs", ".removed-7e3b05c2-9-x"));
  await close();
  const { leftovers, lines } = await nextStart(path);
  expect(leftovers.map(({ record }) => record.stored.id)).toEqual(jobs.map(({ id }) => id));
  expect(lines).toEqual([]);
  expect(await readdir(join(path, "jobs"))).toHaveLength(3);
});

test("a record cut at any length is what was written up to there, or is set aside", async () => {
  const origin = await temporaryDirectory();
  const { journal, close } = await openState(origin);
  const stored = storedJob();
  const record = await journal.accept(stored);
  const marks = [(await stat(join(record.dir, "record"))).size];
  for (const note of ["one", "two"]) {
    await record.remember({ kind: note });
    marks.push((await stat(join(record.dir, "record"))).size);
  }
  await record.finish(report);
  await close();
  const whole = await readFile(join(record.dir, "record"));
  marks.push(whole.length);
  for (let length = 0; length <= whole.length; length++) {
    const path = join(origin, "cuts", String(length));
    await cp(join(origin, "jobs"), join(path, "jobs"), { recursive: true });
    const file = join(path, "jobs", stored.key, "record");
    await truncate(file, length);
    const complete = marks.filter((mark) => mark <= length).length;
    const { leftovers, lines } = await nextStart(path);
    if (complete === 0) {
      expect([leftovers.length, lines.length]).toEqual([0, 1]);
      expect(await readdir(join(path, "corrupt"))).toHaveLength(1);
      continue;
    }
    expect(leftovers).toHaveLength(1);
    expect(leftovers[0]?.record.report).toEqual(complete === 4 ? report : null);
    expect(leftovers[0]?.notes).toHaveLength(Math.min(complete - 1, 2));
    // The torn end is replaced; nothing is appended to it.
    if (length % 5 !== 0 && complete === 1) continue;
    const next = await openState(path);
    await next.journal.leftovers()[0]?.record.remember({ kind: "after" });
    await next.close();
    expect((await nextStart(path)).leftovers[0]?.notes.at(-1)).toEqual({ kind: "after" });
    await rm(path, { recursive: true });
  }
}, 120_000);

test("no damaged byte makes a verdict that was not written, or ends the start", async () => {
  const path = await temporaryDirectory();
  const { journal, close } = await openState(path);
  const stored = storedJob();
  const record = await journal.accept(stored);
  await record.remember({ kind: "note" });
  await record.finish(report);
  record.acknowledged(99);
  await close();
  const whole = await readFile(join(record.dir, "record"));
  const first = whole.indexOf(0x0a);
  for (const value of [0x00, 0x0a, 0x31, 0xff]) {
    for (let at = 0; at < whole.length; at += 3) {
      const garbled = Buffer.from(whole);
      garbled[at] = value;
      await mkdir(record.dir, { recursive: true });
      await writeFile(join(record.dir, "record"), garbled);
      const { leftovers } = await nextStart(path);
      if (garbled.equals(whole)) expect(leftovers[0]?.record.report).toEqual(report);
      else if (at <= first) expect(leftovers).toEqual([]);
      else {
        expect(leftovers[0]?.record.stored).toEqual(stored);
        expect([null, JSON.stringify(report)]).toContainEqual(
          leftovers[0]?.record.report === null ? null : JSON.stringify(leftovers[0]?.record.report),
        );
      }
    }
  }
}, 120_000);

test("what is kept beside a record is there before it, and nothing is left where it cannot be", async () => {
  const path = await temporaryDirectory();
  const { journal, close } = await openState(path);
  const stored = storedJob();
  const { dir } = await journal.accept(stored, async (made) => {
    expect(await readdir(made)).toEqual([]);
    await writeFile(join(made, "payload"), "secret");
  });
  expect(await readFile(join(dir, "payload"), "utf8")).toBe("secret");
  const full = async (): Promise<void> => {
    throw new Error("no room");
  };
  await expect(journal.accept(storedJob(), full)).rejects.toThrow("Cannot keep job");
  expect(await readdir(join(path, "jobs"))).toEqual([stored.key]);
  await close();

  // So it is where the process was killed before there was a record.
  await rm(join(dir, "record"));
  expect((await nextStart(path)).leftovers).toEqual([]);
  const [aside = ""] = await readdir(join(path, "corrupt"));
  expect(await readdir(join(path, "corrupt", aside))).toEqual(["trace"]);
});

test("a garbled or cut acknowledgement counts as none", async () => {
  const path = await temporaryDirectory();
  const { journal, close } = await openState(path);
  const record = await journal.accept(storedJob());
  record.acknowledged(123_456);
  await close();
  const file = join(record.dir, "acknowledged");
  const whole = await readFile(file);
  for (let length = 0; length <= whole.length; length += 4) {
    await writeFile(file, whole.subarray(0, length));
    expect((await nextStart(path)).leftovers[0]?.acknowledged).toBe(length === whole.length ? 123_456 : 0);
    await writeFile(file, Buffer.concat([whole.subarray(0, length), Buffer.from("7"), whole.subarray(length + 1)]));
    expect([0, 123_456]).toContain((await nextStart(path)).leftovers[0]?.acknowledged);
  }
});

test("what is none of the runner's is set aside, what a newer one wrote is left alone", async () => {
  const path = await temporaryDirectory();
  const { journal, close } = await openState(path);
  const good = await journal.accept(storedJob());
  await close();
  const jobs = join(path, "jobs");
  await writeFile(join(jobs, "file"), "x");
  await writeFile(join(jobs, "Große Datei"), "x");
  await symlink("/etc", join(jobs, "link"));
  await mkdir(join(jobs, "empty"));
  await mkdir(join(jobs, "other"));
  await writeFile(join(jobs, "other", "record"), encodeLine({ kind: "accepted", job: storedJob() }));
  await mkdir(join(jobs, "directory", "record"), { recursive: true });
  await mkdir(join(jobs, "newer"));
  const newer = encodeLine({ kind: "accepted", job: storedJob({ key: "newer" }) });
  newer[0] = "7".charCodeAt(0);
  await writeFile(join(jobs, "newer", "record"), newer);
  const { leftovers, lines } = await nextStart(path);
  expect(leftovers.map(({ record }) => record.stored.key)).toEqual([good.stored.key]);
  expect(lines.filter((line) => line.startsWith("warn"))).toHaveLength(7);
  expect(lines.join("\n")).toContain("was written by a newer runner (format 7, this one knows 1): left alone");
  expect((await readdir(jobs)).sort()).toEqual([good.stored.key, "newer"].sort());
  expect(await readFile(join(jobs, "newer", "record"))).toEqual(newer);
  expect((await nextStart(path)).lines).toHaveLength(1);
});

test("a job that cannot be kept is refused and leaves nothing", async () => {
  const path = await temporaryDirectory();
  const { journal, stateDir } = await openState(path);
  const stored = storedJob();
  await journal.accept(stored);
  await expect(journal.accept(stored)).rejects.toThrow(`Cannot keep job ${stored.id}`);
  await access(join(stateDir.jobsDir, stored.key, "record"));
  await expect(journal.accept(storedJob({ key: "../x" }))).rejects.toThrow("is no key of a job");
  await rm(stateDir.jobsDir, { recursive: true });
  await expect(journal.accept(storedJob())).rejects.toThrow(/Cannot keep job .* ENOENT|Cannot keep job/);
});

test("whatever moment the process is killed at, each job is there with all that was promised", async () => {
  const path = await temporaryDirectory();
  for (let round = 0; round < 8; round++) {
    const script = join(import.meta.dirname, "journal-in-a-loop.ts");
    const child = spawn(process.execPath, [script, path], { stdio: ["ignore", "pipe", "inherit"] });
    const exit = once(child, "exit");
    const promised = new Set<string>();
    let seen = 0;
    const until = 10 + round * 7;
    for await (const line of createInterface(child.stdout)) {
      promised.add(line);
      if (++seen === until) child.kill("SIGKILL");
    }
    await exit;
    const log = recordingLog();
    const { journal, close } = await openState(path, log);
    const found = new Map(journal.leftovers().map(({ record, notes }) => [record.stored.id, { record, notes }]));
    for (const line of promised) {
      const [what, id = ""] = line.split(" ");
      if (promised.has(`removing ${id}`)) continue;
      expect(found.get(id), line).toBeDefined();
      if (what === "noted") expect(found.get(id)?.notes).toEqual([{ kind: "note", id }]);
      if (what === "finished") expect(found.get(id)?.record.report?.state).toBe("success");
    }
    for (const [id, { record }] of found) {
      // A record has a verdict only if the process said so, except for the record that it was writing.
      if (record.report !== null) expect(promised.has(`noted ${id}`)).toBe(true);
      await record.remove();
    }
    // A process that is killed between the directory and its record leaves a directory that is set aside: at most one
    // for each of the two loops.
    expect(log.lines.length).toBeLessThanOrEqual(2);
    await close();
  }
}, 120_000);
