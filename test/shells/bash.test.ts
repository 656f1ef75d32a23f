import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { bash, sh } from "../../shells/bash.ts";
import { findShellWriter } from "../../shells/index.ts";
import type { Op } from "../../src/shell.ts";
import { type Interpreter, shellContract } from "../contract/shell.ts";
import { toolDirectory } from "../executors/remote/local.ts";

/** bash behaves as `sh` when its name is `sh`. */
const links = mkdtempSync(join(tmpdir(), "alloy-sh-"));
symlinkSync("/bin/bash", join(links, "sh"));
/** Images often have only these tools. */
const tools = join(links, "tools");
if (existsSync("/bin/busybox")) toolDirectory(tools, "busybox");
afterAll(() => rmSync(links, { recursive: true }));

/** All programs that may have the name `sh` somewhere. */
const shells: readonly Interpreter[] = [
  { name: "dash", argv: ["dash"] },
  { name: "bash as sh", argv: [join(links, "sh")] },
  { name: "busybox", argv: ["busybox", "sh"] },
  { name: "busybox with its own programs", argv: [join(tools, "sh")], path: tools },
  { name: "mksh", argv: ["mksh"] },
  { name: "zsh", argv: ["zsh"] },
  { name: "ksh93", argv: ["ksh93"] },
];

function isHere({ argv: [program, ...args] }: Interpreter): boolean {
  return spawnSync(program, [...args, "-c", "exit 0"]).status === 0;
}

shellContract(bash, [{ name: "bash", argv: ["bash"] }]);
shellContract(sh, shells.filter(isHere));

for (const { name } of shells.filter((one) => !isHere(one))) {
  test.skip(`scripts of the writer "sh" in ${name}, which is not on this machine`, () => {});
}

describe("the writers", () => {
  test("are found by name", () => {
    const names = ["bash", "sh", "cmd", "powershell", "pwsh"] as const;
    expect(names.map((name) => findShellWriter(name)?.name)).toEqual(names);
  });

  test("start a login shell only when asked", () => {
    expect(bash.command({ login: true })).toEqual({ argv: ["bash", "--login"], scriptOn: "stdin", extension: ".sh" });
    expect(sh.command({ login: false }).argv).toEqual(["sh"]);
  });

  test("what is written one after the other takes one mkdir, whatever directories it needs", () => {
    const dir = mkdtempSync(join(tmpdir(), "alloy-bash-"));
    try {
      mkdirSync(join(dir, "bin"));
      const log = join(dir, "log");
      writeFileSync(join(dir, "bin", "mkdir"), `#!/bin/sh\necho mkdir >>${log}\nexec /bin/mkdir "$@"\n`, {
        mode: 0o755,
      });
      const paths = ["a/one", "a/two", "b/c/three"].map((path) => join(dir, path));
      for (const writer of [bash, sh]) {
        const files = paths.map((path): Op => ({ op: "write", path, content: `${path}\n` }));
        const text = writer.write([...files, { op: "cd", path: dir }], {
          tmpDir: join(dir, "tmp"),
          xtrace: false,
          proof: "proof",
        });
        const env = { PATH: `${join(dir, "bin")}:/bin:/usr/bin` };
        for (let round = 1; round <= 2; round++) {
          const { status, stderr } = spawnSync(writer.name, [], { input: text, env, encoding: "utf8" });
          expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
          for (const path of paths) expect(readFileSync(path, "utf8")).toBe(`${path}\n`);
          expect(readFileSync(log, "utf8")).toBe("mkdir\n");
        }
        for (const name of ["a", "b"]) rmSync(join(dir, name), { recursive: true });
        rmSync(log);
      }
    } finally {
      rmSync(dir, { recursive: true });
    }
  });

  test("bash says nothing of the script when a part of it is killed", () => {
    const dir = mkdtempSync(join(tmpdir(), "alloy-bash-"));
    try {
      // The program that writes a file variable is killed in the middle.
      mkdirSync(join(dir, "bin"));
      writeFileSync(join(dir, "bin", "mkdir"), "#!/bin/sh\nkill -9 $$\n", { mode: 0o755 });
      symlinkSync("/bin/sh", join(dir, "bin", "sh"));
      const text = bash.write([{ op: "write", path: join(dir, "tmp", "file"), content: "tell-nobody" }], {
        tmpDir: join(dir, "tmp"),
        xtrace: false,
        proof: "proof",
      });
      const result = spawnSync("bash", [], { input: text, env: { PATH: `${dir}/bin:/bin:/usr/bin` } });
      expect(result.status).toBe(137);
      expect(`${result.stdout}${result.stderr}`).not.toContain("tell-nobody");
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
});
