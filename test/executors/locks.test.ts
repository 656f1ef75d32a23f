import { execFileSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { lockDirectories } from "../../executors/shell/places/lock-directories.ts";
import { createDirectoryLocks } from "../../executors/shell/places/locks.ts";
import { createProcfsTable } from "../../executors/shell/processes/procfs.ts";
import { createPsTable } from "../../executors/shell/processes/ps.ts";

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

test.skipIf(process.platform === "win32")(
  "the claim of a job outlives its process as long as its room is there",
  () => {
    const dir = scratch();
    const rooms = [join(dir, "room"), join(dir, "elsewhere")];
    const state = join(dir, "locks");
    mkdirSync(state, { mode: 0o700 });
    mkdirSync(join(dir, "room"));
    const locks = createDirectoryLocks([state], table);
    const claim = locks.claim("/srv/builds/1", rooms);
    const file = join(state, readdirSync(state)[0] ?? "");
    // As if a process had made it that is gone.
    writeFileSync(file, readFileSync(file, "utf8").replace(/"startedAt":\d+/, '"startedAt":1'));
    expect(locks.claim("/srv/builds/1")).toBeNull();
    expect(locks.claim("/srv/builds/1/inside", [join(dir, "another")])).toBeNull();
    const taken = locks.claim("/srv/builds/1", rooms);
    expect(taken).not.toBeNull();
    expect(locks.claim("/srv/builds/1", rooms)).toBeNull();
    taken?.[Symbol.dispose]();

    const last = locks.claim("/srv/builds/1", rooms);
    writeFileSync(file, readFileSync(file, "utf8").replace(/"startedAt":\d+/, '"startedAt":1'));
    rmSync(join(dir, "room"), { recursive: true });
    const next = locks.claim("/srv/builds/1");
    expect(next).not.toBeNull();
    for (const one of [claim, last, next]) one?.[Symbol.dispose]();
  },
);

test("there is always one that nobody else could have made first", () => {
  const scratchDir = scratch();
  expect(lockDirectories(scratchDir, false).at(-1)).toBe(join(scratchDir, "locks"));
  expect(lockDirectories(scratchDir, true)).toEqual([join(scratchDir, "locks")]);
  expect(lockDirectories(scratchDir, false)[0]).not.toMatch(/^\/tmp\//);
});
