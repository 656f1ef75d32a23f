import { existsSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, test } from "vitest";
import { probeTools, remoteFiles } from "../../../executors/remote/index.ts";
import { listFiles } from "../../../executors/shell/files/list.ts";
import { packFiles } from "../../../executors/shell/files/pack.ts";
import { unpackFiles } from "../../../executors/shell/files/unpack.ts";
import { listUntracked } from "../../../executors/shell/files/untracked.ts";
import { never } from "../../../src/time.ts";
import { workspaceContract } from "../../contract/workspace.ts";
import { localCommands, toolDirectory } from "./local.ts";

const dir = mkdtempSync(join(tmpdir(), "alloy-tools-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
const PATH = process.env.PATH ?? "";
const few = [
  "cat",
  "chmod",
  "cut",
  "df",
  "find",
  "git",
  "head",
  "ln",
  "mkdir",
  "mv",
  "readlink",
  "rm",
  "touch",
  "uname",
  "wc",
];

const sets: readonly { name: string; needs: string; shell(): readonly [shell: string, path: string] }[] = [
  { name: "GNU's programs and dash", needs: "/bin/dash", shell: () => ["/bin/dash", PATH] },
  { name: "GNU's programs and bash", needs: "/bin/bash", shell: () => ["/bin/bash", PATH] },
  {
    name: "GNU's programs and zsh as sh",
    needs: "/bin/zsh",
    shell: () => {
      symlinkSync("/bin/zsh", join(dir, "sh"));
      return [join(dir, "sh"), PATH];
    },
  },
  { name: "GNU's programs and mksh", needs: "/bin/mksh", shell: () => ["/bin/mksh", PATH] },
  {
    name: "busybox alone",
    needs: "/bin/busybox",
    shell: () => {
      const own = toolDirectory(join(dir, "busybox"), "busybox");
      symlinkSync("/usr/bin/git", join(own, "git"));
      return [`${own}/sh`, own];
    },
  },
  {
    name: "busybox without tar",
    needs: "/bin/busybox",
    shell: () => {
      const own = toolDirectory(join(dir, "busybox-no-tar"), "busybox", ["tar"]);
      symlinkSync("/usr/bin/git", join(own, "git"));
      return [`${own}/sh`, own];
    },
  },
  {
    name: "dash and few of GNU's programs, no tar",
    needs: "/bin/dash",
    shell: () => ["/bin/dash", toolDirectory(join(dir, "few"), few)],
  },
];

workspaceContract("shell executor", {
  open: async ({ root, tmpDir }) => {
    const git = { command: <T>(argv: T): T => argv, environment: { PATH } };
    return {
      list: (select, signal) => listFiles({ root, untracked: (its) => listUntracked(root, git, its) }, select, signal),
      pack: async (paths, signal) => packFiles(root, paths, signal),
      unpack: (tar, limits, signal) => unpackFiles({ root, tmpDir }, tar, limits, signal),
    };
  },
});

for (const { name, needs, shell } of sets) {
  if (!existsSync(needs) && process.env.CI !== "true") {
    describe.skip(`${name}: ${needs} is missing`, () => test("none", () => {}));
    continue;
  }
  const [program, path] = shell();
  workspaceContract(name, {
    open: async (place) => {
      const commands = localCommands([program], { PATH: path });
      return remoteFiles(commands, { ...place, tools: await probeTools(commands, never) });
    },
  });
}
