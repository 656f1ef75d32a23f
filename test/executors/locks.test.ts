import { execFileSync } from "node:child_process";
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { lockDirectories } from "../../executors/shell/lock-directories.ts";
import { createDirectoryLocks } from "../../executors/shell/locks.ts";
import { createProcfsTable } from "../../executors/shell/procfs.ts";
import { createPsTable } from "../../executors/shell/ps.ts";

const table = process.platform === "linux" ? createProcfsTable("/proc") : createPsTable();

function scratch(): string {
  const dir = mkdtempSync(join(tmpdir(), "alloy-locks-"));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

test("a directory that somebody else has made, opened or linked is passed over", () => {
  const dir = scratch();
  const [open, link, theirs] = [join(dir, "open"), join(dir, "link"), join(dir, "theirs")];
  const good = join(dir, "new/home/good");
  mkdirSync(open);
  chmodSync(open, 0o777);
  symlinkSync(scratch(), link);
  mkdirSync(theirs, { mode: 0o700 });
  if (process.getuid?.() === 0) chownSync(theirs, 65_534, 65_534);
  else rmSync(theirs, { recursive: true });
  const locks = createDirectoryLocks([open, link, ...(existsSync(theirs) ? [theirs] : []), good], table);
  const claim = locks.claim("/srv/builds/1");
  expect(existsSync(good)).toBe(true);
  expect(locks.claim("/srv/builds/1/inside")).toBeNull();
  claim?.[Symbol.dispose]();
  expect(existsSync(good)).toBe(false);
});

test.skipIf(process.platform === "win32")("a pipe in the place of a claim holds nobody up", () => {
  const dir = scratch();
  const locks = createDirectoryLocks([dir], table);
  const claim = locks.claim("/srv/builds/1");
  const [name = ""] = readdirSync(dir);
  rmSync(join(dir, name));
  execFileSync("mkfifo", [join(dir, name)]);
  const next = locks.claim("/srv/builds/1");
  expect(next).not.toBeNull();
  next?.[Symbol.dispose]();
  claim?.[Symbol.dispose]();
});

test("there is always one that nobody else could have made first", () => {
  const scratchDir = scratch();
  expect(lockDirectories(scratchDir, false).at(-1)).toBe(join(scratchDir, "locks"));
  expect(lockDirectories(scratchDir, true)).toEqual([join(scratchDir, "locks")]);
  expect(lockDirectories(scratchDir, false)[0]).not.toMatch(/^\/tmp\//);
});
