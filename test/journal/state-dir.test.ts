import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir, readFile, stat, symlink, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { expect, onTestFinished, test } from "vitest";
import { ConfigError } from "../../src/errors.ts";
import { claimDirectory } from "../../src/journal/state/claim.ts";
import { ownIdentity } from "../../src/journal/state/process-identity.ts";
import { openStateDir } from "../../src/journal/state/state-dir.ts";
import { never } from "../../src/time.ts";
import { recordingLog, temporaryDirectory } from "./support.ts";

const log = recordingLog();

/** Starts another process that wants the directory, and returns its first line. */
async function otherProcess(path: string): Promise<{ child: ChildProcess; line: string }> {
  const script = join(import.meta.dirname, "hold-state-dir.ts");
  const child = spawn(process.execPath, [script, path], { stdio: ["pipe", "pipe", "inherit"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  const [line] = await once(createInterface(child.stdout), "line");
  return { child, line: String(line) };
}

async function ended(child: ChildProcess, how: () => void): Promise<void> {
  const exit = once(child, "exit");
  how();
  await exit;
}

test("it is private, and its scratch space is empty at start", async () => {
  const path = join(await temporaryDirectory(), "deep", "state");
  const first = await openStateDir({ path, log }, never);
  await mkdir(join(first.scratchDir, "left", "over"), { recursive: true });
  await writeFile(join(first.scratchDir, "left", "file"), "x");
  await symlink("/etc", join(first.scratchDir, "link"));
  await first.close();
  const second = await openStateDir({ path, log }, never);
  expect(await readdir(second.scratchDir)).toEqual([]);
  expect((await stat("/etc")).isDirectory()).toBe(true);
  for (const dir of [path, second.jobsDir, second.corruptDir, second.scratchDir]) {
    expect((await stat(dir)).mode & 0o777).toBe(0o700);
  }
  await second.close();
});

test("a second process is refused, with the number of the first", async () => {
  const path = await temporaryDirectory();
  const { child, line } = await otherProcess(path);
  expect(line).toBe(`held ${child.pid}`);
  const refusal = openStateDir({ path, log }, never);
  await expect(refusal).rejects.toThrow(ConfigError);
  await expect(refusal).rejects.toThrow(
    `state_dir ${path} is in use by process ${child.pid}; set state_dir to another directory, or stop that process`,
  );
  await ended(child, () => child.stdin?.end());
  await (await openStateDir({ path, log }, never)).close();
});

test("a killed process holds nothing", async () => {
  const path = await temporaryDirectory();
  const { child } = await otherProcess(path);
  await ended(child, () => child.kill("SIGKILL"));
  await (await openStateDir({ path, log }, never)).close();
  expect(await readdir(join(path, "lock"))).toEqual([]);
});

test("of many that start at once exactly one has it", async () => {
  const path = await temporaryDirectory();
  const lines = (await Promise.all(Array.from({ length: 5 }, () => otherProcess(path)))).map(({ line }) => line);
  expect(lines.filter((line) => line.startsWith("held"))).toHaveLength(1);
  expect(lines.filter((line) => line.includes("is in use by process"))).toHaveLength(4);
}, 120_000);

test("within one process many claims end with one holder as well", async () => {
  const path = await temporaryDirectory();
  const claims = await Promise.allSettled(Array.from({ length: 8 }, () => claimDirectory(path, "it", never)));
  const held = claims.filter((claim) => claim.status === "fulfilled");
  expect(held).toHaveLength(1);
  for (const claim of held) await claim.value.release();
});

test("claims of the dead, of another boot and of nobody are no obstacle", async () => {
  const path = await temporaryDirectory();
  const lock = join(path, "lock");
  await mkdir(lock);
  const own = await ownIdentity();
  const dead = [
    { ...own, pid: 2 ** 22 + 1 },
    { ...own, started: "1" },
    { ...own, boot: "another" },
  ];
  for (const [index, claim] of dead.entries())
    await writeFile(join(lock, `${claim.pid}-${index}`), JSON.stringify(claim));
  await mkdir(join(lock, "directory"));
  for (const name of ["empty", "torn"]) {
    await writeFile(join(lock, name), name === "empty" ? "" : '{"pid":1');
    await utimes(join(lock, name), 1, 1);
  }
  const state = await openStateDir({ path, log }, never);
  expect(await readdir(lock)).toHaveLength(1);
  await state.close();
});

test("a claim from another container counts for as long as it is touched", async () => {
  const path = await temporaryDirectory();
  const timing = { beatMs: 20, silentMs: 400 };
  const first = await claimDirectory(path, "it", never, timing);
  const [name = ""] = await readdir(path);
  const claim = JSON.parse(await readFile(join(path, name), "utf8"));
  await writeFile(join(path, name), `${JSON.stringify({ ...claim, namespace: "pid:[1]" })}\n`);
  await expect(claimDirectory(path, "it", never, timing)).rejects.toThrow("in another container or namespace");
  await writeFile(join(path, "77-abc"), `${JSON.stringify({ ...claim, pid: 77, namespace: "pid:[1]" })}\n`);
  await first.release();
  await (await claimDirectory(path, "it", never, timing)).release();
});

test("a place that cannot be written is named, with what to do", async () => {
  const file = join(await temporaryDirectory(), "file");
  await writeFile(file, "");
  const path = join(file, "state");
  const refusal = openStateDir({ path, log }, never);
  await expect(refusal).rejects.toThrow(ConfigError);
  await expect(refusal).rejects.toThrow(
    /^state_dir .*\/file\/state cannot be used: .*ENOTDIR.*; make it writable, or set state_dir$/,
  );
});
