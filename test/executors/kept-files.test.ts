import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, statfsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { keepingAt } from "../../executors/shell/files/keep.ts";
import { unpackFiles } from "../../executors/shell/files/unpack.ts";
import type { Environment } from "../../src/executor/environment.ts";
import { never } from "../../src/time.ts";
import { entry, type KeptPlace, keepingContract, tarOf } from "../contract/keeping.ts";
import { keptCacheJobs } from "../contract/kept-caches.ts";
import { createRepository, serveGit } from "../job/git-server.ts";
import { runOps, Sink, sampleRequest, source } from "../support/executor-kit.ts";
import { isRoot, sshdMissing } from "../support/sshd.ts";
import { openStand, type SshStand } from "./ssh-stand.ts";

const isTelling = process.platform === "linux" && [0xef53, 0x58465342, 0x9123683e].includes(statfsSync(tmpdir()).type);

describe.skipIf(!isTelling)("on ext4, XFS or btrfs", () => {
  const dir = mkdtempSync(join(tmpdir(), "alloy-keeping-"));
  afterAll(() => rmSync(dir, { recursive: true, force: true }));

  keepingContract("shell executor", async () => {
    const [root, tmpDir] = [join(dir, "check out"), join(dir, "tmp")];
    mkdirSync(root, { recursive: true });
    const local = { root, tmpDir };
    const none = (): Promise<never> => Promise.reject(new Error("it is not asked for"));
    return {
      files: {
        list: none,
        pack: none,
        unpack: (tar, limits, signal) => unpackFiles(local, tar, limits, signal),
        keeping: keepingAt(local),
      },
      sh: async (text) => execFileSync("sh", ["-ec", text], { cwd: root, timeout: 20_000 }).toString(),
      outside: dir,
    };
  });
});

/** A place of an environment of its own, with the root of the test's disk. */
export function placeOf(environment: Environment, outside: string): KeptPlace {
  const { workspace } = environment;
  return {
    files: workspace,
    sh: async (text) => {
      const { code, text: said } = await runOps(environment, [
        { op: "mkdir", path: workspace.root },
        { op: "cd", path: workspace.root },
        ...source(text),
      ]);
      if (code !== 0) throw new Error(`status ${code}: ${said}`);
      return said;
    },
    outside,
  };
}

// Root may set the clock of its host.
const missing = sshdMissing() ?? (isTelling ? null : "a file system that tells of changes");
describe.skipIf(missing !== null || !isRoot)("over ssh (as root, for another account)", () => {
  let stand: SshStand;
  let environment: Environment;
  beforeAll(async () => {
    stand = await openStand();
    const executor = stand.open({ shell: "sh" });
    environment = await executor.prepare(sampleRequest(), new Sink(), never);
  }, 60_000);
  afterAll(async () => {
    await environment.destroy(never);
    await stand.close();
  }, 60_000);
  keepingContract("ssh executor", async () => placeOf(environment, stand.user.home));

  test("archives are unpacked side by side, and come to their places one after the other", {
    timeout: 30_000,
  }, async () => {
    const { files, sh } = placeOf(environment, stand.user.home);
    await sh("rm -rf many");
    const limits = { bytes: 1e6, entries: 10, freeBytes: 0 };
    const ends = [1, 2, 3].map(() => Promise.withResolvers<void>());
    expect(files.unpacksAtOnce).toBe(ends.length);
    const begun = ends.map(() => Promise.withResolvers<void>());
    const unpacking = ends.map(async (end, index) => {
      async function* held(): AsyncGenerator<Buffer> {
        yield tarOf(entry("many/file", { text: `${index}\n` }));
        begun[index]?.resolve();
        await end.promise;
      }
      await files.unpack(Readable.from(held(), { objectMode: false }), limits, never);
    });
    await Promise.all(begun.map(({ promise }) => promise));
    for (const [index, end] of ends.entries()) {
      end.resolve();
      await unpacking[index];
      expect(await sh("cat many/file")).toBe(`${index}\n`);
    }
  });

  test("jobs over ssh get what was saved", { timeout: 60_000 }, async () => {
    const repository = createRepository(join(stand.sshd.dir, "git/group/project"));
    const sha = repository.commit({ "deps/list": "vendor" });
    const server = await serveGit(join(stand.sshd.dir, "git"));
    try {
      const url = `${server.origin}/group/project`;
      await keptCacheJobs(stand.open({ shell: "sh" }), { url, sha });
    } finally {
      await server.close();
    }
  });
});
