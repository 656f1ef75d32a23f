import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, statfsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { keepingByChanges, keepingByContents, probeTools, remoteFiles } from "../../executors/remote/index.ts";
import { keepingAt } from "../../executors/shell/files/keep.ts";
import { unpackFiles } from "../../executors/shell/files/unpack.ts";
import type { Environment } from "../../src/executor/environment.ts";
import { never } from "../../src/time.ts";
import { entry, type KeptPlace, keepingContract, placeOf, tarOf } from "../contract/keeping.ts";
import { keptCacheJobs } from "../contract/kept-caches.ts";
import { createRepository, serveGit } from "../job/git-server.ts";
import { Sink, sampleRequest } from "../support/executor-kit.ts";
import { isRoot, sshdMissing } from "../support/sshd.ts";
import { localCommands, toolDirectory } from "./remote/local.ts";
import { openStand, type SshStand } from "./ssh-stand.ts";

const isTelling = process.platform === "linux" && [0xef53, 0x58465342, 0x9123683e].includes(statfsSync(tmpdir()).type);

describe.skipIf(!isTelling)("on ext4, XFS or btrfs", () => {
  let dir = "";
  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), "alloy-keeping-"));
  });
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

interface Local {
  readonly name: string;
  readonly by: "changes" | "contents";
  readonly shell: readonly string[];
  readonly path: () => string;
  readonly every?: number;
}

describe("where only a POSIX shell is", () => {
  let dir = "";
  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), "alloy-posix-"));
  });
  afterAll(() => rmSync(dir, { recursive: true, force: true }));

  const dash = { shell: ["/bin/dash"], path: () => process.env.PATH ?? "" };
  const busybox = { shell: ["/bin/busybox", "sh"], path: () => toolDirectory(join(dir, "busybox"), "busybox") };
  const sets: readonly Local[] = [
    ...(isTelling ? [{ name: "by changes, with GNU's facts", by: "changes" as const, ...dash }] : []),
    { name: "by contents, with GNU's facts", by: "contents", ...dash },
    { name: "by contents, with those of stat", by: "contents", every: 3, ...busybox },
  ];
  for (const { name, by, shell, path, every = 1 } of sets.filter(({ shell: [program = ""] }) => existsSync(program))) {
    let opened: KeptPlace | undefined;
    keepingContract(
      name,
      async () => {
        if (opened !== undefined) return opened;
        const place = mkdtempSync(join(dir, "place-"));
        const [root, tmpDir] = [join(place, "check out"), join(place, "tmp")];
        mkdirSync(root);
        mkdirSync(tmpDir);
        const commands = localCommands(shell, { PATH: path() });
        // Nothing is kept by its changes for root, as whom tests may run.
        const tools = { ...(await probeTools(commands, never)), ...(by === "changes" ? { uid: 1000 } : {}) };
        const kept = { commands, place: { root, tmpDir, tools }, host: "here", asideDir: join(tmpDir, "kept") };
        const keeping =
          by === "changes" ? keepingByChanges(kept) : keepingByContents(String(process.geteuid?.()), kept);
        if (keeping === undefined) throw new Error("nothing can be kept");
        opened = {
          files: remoteFiles(commands, kept.place, { keeping, tellsContents: by === "contents" }),
          sh: async (text) => execFileSync("sh", ["-ec", text], { cwd: root, timeout: 20_000 }).toString(),
          outside: place,
        };
        return opened;
      },
      every,
    );
  }

  test("nothing is kept by its changes for root, which can set the clock", async () => {
    const commands = localCommands(["/bin/sh"], { PATH: process.env.PATH ?? "" });
    const tools = { ...(await probeTools(commands, never)), uid: 0 };
    const place = { root: dir, tmpDir: dir, tools };
    expect(keepingByChanges({ commands, place, host: "here", asideDir: dir })).toBeUndefined();
  });
});

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
  keepingContract("ssh executor", async () => placeOf(environment, stand.user.home), 4);

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
