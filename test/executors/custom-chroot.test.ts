import { existsSync, readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { never } from "../../src/time.ts";
import { executorContract } from "../contract/executor.ts";
import { runOps, Sink, sampleRequest, source } from "../support/executor-kit.ts";
import { makeRootTar } from "../support/images.ts";
import { type CustomStand, chrootDriver, leftToDrivers, nspawnDriver, openCustomStand } from "./custom-stand.ts";

/** The table of a driver that is one program for all stages, and unpacks `tar` for each job. */
const inRoot = (driver: string, tar: string) =>
  Object.fromEntries(
    ["config", "prepare", "run", "cleanup"].flatMap((stage) => [
      [`${stage}_exec`, driver],
      [`${stage}_args`, [stage, tar]],
    ]),
  );

describe("a driver for chroots", () => {
  if (process.platform !== "linux" || process.getuid?.() !== 0) {
    test.skip("needs root on Linux", () => {});
    return;
  }
  let stand: CustomStand;
  beforeAll(async () => {
    stand = openCustomStand();
    await makeRootTar("git", join(stand.dir, "root.tar"));
  }, 120_000);
  afterAll(() => stand.close());

  executorContract("custom, each job in a chroot of its own", {
    open: async () => stand.open(inRoot(chrootDriver, join(stand.dir, "root.tar"))),
    shared: true,
    jobsAtOnce: 4,
    timeoutMs: 60_000,
    skip: [
      ...leftToDrivers,
      ...[
        "what a background process still had to say is in the trace",
        "what passes the output on after the shell's end has two seconds for a first word",
        "leftovers may live on where the operator wants it",
        "a job that follows at once works where the last one did, whose clean-up is still under way",
        "the next job finds the checkout of the last one, and none of its temporary files",
        "jobs of different trust find nothing of one another, and have slots as those of one",
        "a job builds its commit, whatever the last one left in the index and the objects",
        "after a crash the notes lead to all that is left of a job, and to nothing else",
      ].map((test) => ({ test, because: "a chroot goes with its job, and processes with their script" })),
    ],
  });
});

describe("a driver for systemd-nspawn", () => {
  if (process.platform !== "linux" || process.getuid?.() !== 0 || !existsSync("/usr/bin/systemd-nspawn")) {
    test.skip("needs root on Linux, and systemd-container", () => {});
    return;
  }

  test("scripts, their statuses, files and what is between them are as anywhere", { timeout: 120_000 }, async () => {
    const stand = openCustomStand();
    try {
      const tar = join(stand.dir, "root.tar");
      await makeRootTar("git", tar);
      const executor = stand.open(inRoot(nspawnDriver, tar));
      const environment = await executor.prepare(sampleRequest(), new Sink(), never);
      const { root } = environment.workspace;
      const first = await runOps(environment, [
        { op: "mkdir", path: root },
        { op: "cd", path: root },
        ...source("echo $$ $(cat /proc/1/comm); echo 'made' >f; echo oops >&2; exit 7"),
      ]);
      expect(first).toMatchObject({ code: 7, signal: null });
      expect(first.text).toMatch(/^\d+ \S+\noops\n$/);
      const select = { globs: ["f"], exclude: [], untracked: false };
      const list = await environment.workspace.list(select, never);
      expect(list.paths).toEqual(["f"]);
      const { tar: packed } = await environment.workspace.pack(list.paths, never);
      const chunks: Buffer[] = [];
      for await (const chunk of packed) chunks.push(chunk);
      expect(Buffer.concat(chunks).toString("latin1")).toContain("made\n");
      await environment.destroy(never);
      await executor.close(never);
      expect(readdirSync(tmpdir()).filter((name) => name.startsWith("alloy-chroot-12-7-"))).toEqual([]);
    } finally {
      stand.close();
    }
  });
});
