import { type SpawnSyncOptions, spawn, spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
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
