import { chmodSync, mkdirSync, mkdtempSync } from "node:fs";
import { chown, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { chooseCacheDir } from "../../src/transfer/cache/cache-dir.ts";

function scratch(): string {
  const dir = mkdtempSync(join(tmpdir(), "alloy-cache-dir-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

test("the default is `cache` in the working directory, and relative ones begin there", async () => {
  const around = { workingDirectory: "/srv/ci", fallback: "/state/caches", otherUser: false };
  expect((await chooseCacheDir({ ...around, configured: undefined })).dir).toBe("/srv/ci/cache");
  expect((await chooseCacheDir({ ...around, configured: "c" })).dir).toBe("/srv/ci/c");
  expect((await chooseCacheDir({ ...around, configured: "/c" })).dir).toBe("/c");
});

describe("where jobs run as another user", () => {
  const fallback = "/state/caches";
  const choose = async (workingDirectory: string, configured?: string): Promise<string> =>
    (await chooseCacheDir({ configured, workingDirectory, fallback, otherUser: true })).dir;

  test("a directory of the runner's own is used, also one that is still to be made", async () => {
    const dir = scratch();
    expect(await choose(dir)).toBe(join(dir, "cache"));
    mkdirSync(join(dir, "cache"));
    expect(await choose(dir)).toBe(join(dir, "cache"));
  });

  test("what others can write to, or lead elsewhere, is only read", async () => {
    const dir = scratch();
    mkdirSync(join(dir, "open/cache"), { recursive: true });
    chmodSync(join(dir, "open"), 0o777);
    expect(await choose(join(dir, "open"))).toBe(fallback);
    // In a directory such as /tmp, whoever comes first makes the name.
    expect(await choose(tmpdir(), `never-made-${process.pid}`)).toBe(fallback);
    await symlink(join(dir, "nowhere"), join(dir, "link"));
    expect(await choose(dir, "link")).toBe(fallback);
    await symlink(join(dir, "open/cache"), join(dir, "into"));
    const { oldDir, reason } = await chooseCacheDir({
      configured: "into",
      workingDirectory: dir,
      fallback,
      otherUser: true,
    });
    expect(oldDir).toBe(join(dir, "into"));
    expect(reason).toMatch(/can be written by other users; caches are kept in \/state\/caches/);
  });

  test.skipIf(process.getuid?.() !== 0)("what belongs to somebody else is only read", async () => {
    const dir = scratch();
    mkdirSync(join(dir, "home/cache"), { recursive: true });
    await chown(join(dir, "home"), 65_534, 65_534);
    expect(await choose(join(dir, "home"))).toBe(fallback);
  });
});
