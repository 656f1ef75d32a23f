import { type SpawnSyncOptions, spawn, spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { expect, onTestFinished, test } from "vitest";
import { CLAIM_PROGRAM, FORGET_PROGRAM } from "../../../executors/ssh/working-copy/claim-program.ts";
import { isRoot } from "../../support/sshd.ts";

function openClaims(): { builds: string; claims: string } {
  const builds = mkdtempSync(join(tmpdir(), "alloy-claims-"));
  onTestFinished(() => rmSync(builds, { recursive: true, force: true }));
  chmodSync(builds, 0o755);
  const claims = join(builds, "0a1b2c3d", ".claims");
  mkdirSync(claims, { recursive: true });
  return { builds, claims };
}

function run(program: string, args: readonly string[], options: SpawnSyncOptions = {}) {
  return spawnSync("sh", ["-c", program, "alloy-runner", ...args], { timeout: 30_000, encoding: "utf8", ...options });
}

/** A job that has a working copy; each word is answered by a line. */
async function claimed(builds: string, job: string): Promise<(word: string) => Promise<unknown>> {
  const args = [builds, "0a1b2c3d", "group/project", "project-7", job, `MARK=${job}.`, "1", "", "", ""];
  const child = spawn("sh", ["-c", CLAIM_PROGRAM, "alloy-runner", ...args], { stdio: ["pipe", "pipe", "inherit"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async (): Promise<unknown> => (await lines.next()).value;
  for (let line = await next(); line !== "ready"; line = await next())
    expect(line).toMatch(/^(slot|root|tmp|claim|builds|node) /);
  return (word) => {
    child.stdin.write(`${word}\n`);
    return next();
  };
}

test("a directory that a job chose is nobody else's until its job has gone, whatever way leads there", async () => {
  const { builds } = openClaims();
  const first = await claimed(builds, "first");
  const second = await claimed(builds, "second");
  mkdirSync(join(builds, "app"));
  symlinkSync("app", join(builds, "alias"));
  expect(await first(`chosen ${builds}/app/deep`)).toBe("chosen");
  const taken = "refused is where another job works at the moment";
  for (const path of ["app", "app/deep", "app/deep/er", "alias/deep"]) {
    expect(await second(`chosen ${builds}/${path}`), path).toBe(taken);
  }
  expect(await second(`chosen ${builds}/alias/deeper`)).toBe("chosen");
  expect(await first("bye")).toBe("done");
  expect(await second(`chosen ${builds}/app`)).toBe("chosen");
  expect(await second("bye")).toBe("done");
});

test("what leads out of the builds directory, or is kept for the runner's jobs, is nobody's to choose", async () => {
  const { builds } = openClaims();
  const elsewhere = mkdtempSync(join(tmpdir(), "alloy-elsewhere-"));
  onTestFinished(() => rmSync(elsewhere, { recursive: true, force: true }));
  symlinkSync(elsewhere, join(builds, "out"));
  symlinkSync("0a1b2c3d", join(builds, "in"));
  symlinkSync(".", join(builds, "all"));
  symlinkSync("nothing", join(builds, "dangling"));
  const job = await claimed(builds, "job");
  for (const path of ["out", "out/x"]) {
    expect(await job(`chosen ${builds}/${path}`)).toBe(`refused leads out of the builds directory to ${elsewhere}`);
  }
  for (const path of ["0a1b2c3d", "0a1b2c3d/1/group/project", "in/1", "all/0a1b2c3d"]) {
    expect(await job(`chosen ${builds}/${path}`)).toBe(
      `refused is in ${builds}/0a1b2c3d, where a runner keeps the directories of its jobs`,
    );
  }
  expect(await job(`chosen ${builds}/all`)).toBe("refused is the builds directory");
  expect(await job(`chosen ${builds}/dangling/x`)).toBe("refused is no directory");
  expect(await job("bye")).toBe("done");
});

test("a dead lock in a directory that may not be written is said, not tried for ever", () => {
  const { builds, claims } = openClaims();
  symlinkSync(`999999999 1 another-boot ${hostname()}`, join(claims, ".lock"));
  chmodSync(claims, 0o555);
  const args = [builds, "0a1b2c3d", "group/project", "project-7", "some-job", "MARK=some-job.", "1", ""];
  const { status, stdout } = run(CLAIM_PROGRAM, args, isRoot ? { uid: 65534, gid: 65534 } : {});
  expect(stdout).toContain(`failed cannot write to ${claims}`);
  expect(status).toBe(1);
});

test.each([
  ["with /proc", FORGET_PROGRAM],
  ["without /proc", FORGET_PROGRAM.replaceAll("/proc/", "/nowhere/")],
])("what keeps a dead job's claim is ended, and nobody who has its number by now: %s", async (_name, program) => {
  const { builds, claims } = openClaims();
  for (const [job, isKeeper] of [
    ["some-job", true],
    ["other-job", false],
  ] as const) {
    const keeper = spawn("sleep", ["600"], { argv0: isKeeper ? `sleep-for-${job}` : "sleep", stdio: "ignore" });
    onTestFinished(() => void keeper.kill("SIGKILL"));
    const ended = new Promise((resolve) => keeper.once("exit", (_code, signal) => resolve(signal)));
    const claim = join(claims, `${job}.${keeper.pid}`);
    mkdirSync(claim);
    writeFileSync(join(claim, "tmp"), `${builds}/0a1b2c3d/0.tmp/group/project\n`);
    writeFileSync(join(claim, "owner"), `${keeper.pid} 1 boot ${hostname()}\n`);
    expect(run(program, [builds, "0a1b2c3d", job, ""]).status).toBe(0);
    if (!isKeeper) keeper.kill("SIGTERM");
    expect(await ended).toBe(isKeeper ? "SIGKILL" : "SIGTERM");
  }
});
