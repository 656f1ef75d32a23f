import { spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { preparePlaces } from "../../../executors/docker/container/prepare-places.ts";
import { MAKE_PLACES } from "../../../executors/kubernetes/job/containers/places-program.ts";

const JOB = 1234;
const OTHER = 4321;

interface Stand {
  readonly builds: string;
  /** Below the builds directory: with `uid` that one's. */
  file(path: string, uid: number): string;
  owner(path: string): number;
  /** Root makes the checkout, which the job chose. */
  prepare(
    checkout: string,
    chosen: "apart" | "among-others" | null,
    uid?: number,
  ): { status: number | null; said: string };
}

function openStand(): Stand {
  const dir = mkdtempSync(join(tmpdir(), "alloy-places-"));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  chmodSync(dir, 0o755);
  const [builds, tmp] = [join(dir, "builds"), join(dir, "tmp")];
  mkdirSync(builds);
  const owner = (path: string): number => lstatSync(join(builds, path)).uid;
  return {
    builds,
    owner,
    file: (path, uid) => {
      const parts = path.split("/");
      for (let count = 1; count < parts.length; count++) {
        const above = join(builds, ...parts.slice(0, count));
        if (existsSync(above)) continue;
        mkdirSync(above);
        chownSync(above, uid, uid);
      }
      const file = join(builds, path);
      writeFileSync(file, "");
      chownSync(file, uid, uid);
      return file;
    },
    prepare: (checkout, chosen, uid = JOB) => {
      rmSync(tmp, { recursive: true, force: true });
      mkdirSync(tmp);
      const places = {
        buildsDir: builds,
        root: join(builds, checkout),
        tmpDir: tmp,
        shared: chosen !== "apart",
        chosen,
      };
      const { script, args } = preparePlaces({ places, uid, gid: uid, open: [] }, false);
      const { status, stderr } = spawnSync("sh", ["-c", script, "alloy-runner", ...args], {
        encoding: "utf8",
        timeout: 30_000,
      });
      return { status, said: stderr };
    },
  };
}

describe.skipIf(process.geteuid?.() !== 0 || process.platform !== "linux")("root gives a chosen directory", () => {
  test("to the job where it has made that itself, with what it made on the way", () => {
    const { prepare, owner, builds, file } = openStand();
    file("theirs/file", OTHER);
    expect(prepare("0/app", "among-others")).toEqual({ status: 0, said: "" });
    expect([owner("0"), owner("0/app"), owner("theirs"), owner("theirs/file"), lstatSync(builds).uid]).toEqual([
      JOB,
      JOB,
      OTHER,
      OTHER,
      0,
    ]);
    // The next job of that user finds it.
    file("0/app/left", JOB);
    expect(prepare("0/app", "among-others").status).toBe(0);
    // An empty one that is nobody's is as a new one.
    mkdirSync(join(builds, "empty"));
    expect(prepare("empty", "among-others").status).toBe(0);
    expect(owner("empty")).toBe(JOB);
  });

  test.each([
    ["another user's", "theirs", OTHER],
    ["in another user's", "theirs/new", OTHER],
    ["root's, with something in it", "theirs", 0],
  ])("and refuses what is %s", (_name, checkout, uid) => {
    const { prepare, owner, builds, file } = openStand();
    file("theirs/deep/file", uid);
    const { status, said } = prepare(checkout, "among-others");
    expect(status).toBe(3);
    expect(said).toContain(`GIT_CLONE_PATH leads to ${join(builds, "theirs")}, which is `);
    expect([owner("theirs"), owner("theirs/deep"), owner("theirs/deep/file")]).toEqual([uid, uid, uid]);
  });

  test("and follows and removes no link or file of others", () => {
    const { prepare, owner, builds, file } = openStand();
    file("theirs/file", OTHER);
    symlinkSync("theirs", join(builds, "link"));
    for (const checkout of ["link", "link/app", "theirs/file"]) {
      expect(prepare(checkout, "among-others").status, checkout).toBe(3);
    }
    expect(lstatSync(join(builds, "link")).isSymbolicLink()).toBe(true);
    expect([owner("theirs"), owner("theirs/file")]).toEqual([OTHER, OTHER]);
  });

  test("with all that an earlier user left, where nobody else has a part in it, and no volume", ({ skip }) => {
    const { prepare, owner, builds, file } = openStand();
    file("app/left/file", OTHER);
    expect(prepare("app", "apart").status).toBe(0);
    expect([owner("app"), owner("app/left"), owner("app/left/file")]).toEqual([JOB, JOB, JOB]);
    file("data/file", OTHER);
    const mounted = join(builds, "volume");
    mkdirSync(mounted);
    if (spawnSync("mount", ["--bind", join(builds, "data"), mounted]).status !== 0) skip("may not mount");
    onTestFinished(() => void spawnSync("umount", [mounted]));
    for (const checkout of ["volume", "volume/x"]) {
      expect(prepare(checkout, "apart")).toMatchObject({
        status: 3,
        said: expect.stringContaining("which is a volume"),
      });
    }
    expect([owner("data"), owner("data/file")]).toEqual([OTHER, OTHER]);
    spawnSync("umount", [mounted]);
  });
});

test.skipIf(process.geteuid?.() !== 0)("in a pod root follows no link on the way to the checkout", () => {
  const { builds, file, owner } = openStand();
  file("theirs/deep/file", OTHER);
  mkdirSync(join(builds, "0a1b2c3d", "0"), { recursive: true });
  symlinkSync("../../theirs", join(builds, "0a1b2c3d", "0", "group"));
  const [tmp, scripts] = [join(builds, "../tmp"), join(builds, "../scripts")];
  const args = [`${JOB}`, `${JOB}`, builds, "0a1b2c3d/0/group/deep", tmp, scripts, "", "0a1b2c3d", ""];
  const { status, stderr } = spawnSync("sh", ["-c", MAKE_PLACES, "alloy-runner", ...args], {
    encoding: "utf8",
    timeout: 30_000,
  });
  expect([status, stderr]).toEqual([0, ""]);
  expect([owner("theirs"), owner("theirs/deep"), owner("theirs/deep/file")]).toEqual([OTHER, OTHER, OTHER]);
  expect(lstatSync(builds).uid).toBe(0);
  const made = ["0a1b2c3d", "0a1b2c3d/0", "0a1b2c3d/0/group", "0a1b2c3d/0/group/deep"];
  expect(made.map(owner)).toEqual([0, JOB, JOB, JOB]);
});
