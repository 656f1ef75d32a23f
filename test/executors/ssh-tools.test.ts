import { execFileSync } from "node:child_process";
import { chmodSync, chownSync, mkdirSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Readable } from "node:stream";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { ScriptFailure } from "../../src/errors.ts";
import type { Environment } from "../../src/executor/environment.ts";
import { never } from "../../src/time.ts";
import { runOps, Sink, sampleRequest, source } from "../support/executor-kit.ts";
import { isRoot, type SshUser, sshdMissing } from "../support/sshd.ts";
import { toolDirectory } from "./remote/local.ts";
import { openStand, type SshStand } from "./ssh-stand.ts";

const missing = sshdMissing();

describe.skipIf(missing !== null || !isRoot)("what profiles set on a far host", { timeout: 120_000 }, () => {
  let stand: SshStand;
  beforeAll(async () => {
    stand = await openStand();
  });
  afterAll(() => stand?.close());

  const userWith = (profile: string): SshUser => {
    const user = stand.sshd.addUser();
    writeFileSync(join(user.home, ".bash_profile"), profile);
    writeFileSync(join(user.home, ".profile"), profile);
    return user;
  };
  const preparedAs = async (user: SshUser, shell: "bash" | "sh"): Promise<Environment> => {
    const executor = stand.open({ shell, buildsDir: "builds" }, { user: user.name });
    const environment = await executor.prepare(sampleRequest(), new Sink(), never);
    onTestFinished(() => environment.destroy(never));
    return environment;
  };

  test("programs and proxies are found by scripts that do not read the profiles, too", async () => {
    const proxy = `http://u:it's "$secret"@proxy:1`;
    const user = userWith(
      `echo noise; PATH=$HOME/opt/bin:$PATH; HTTPS_PROXY='${proxy.replaceAll("'", "'\\''")}'; OTHER=1; export PATH HTTPS_PROXY OTHER\n`,
    );
    const bin = join(user.home, "opt/bin");
    mkdirSync(bin, { recursive: true });
    writeFileSync(join(bin, "only-here"), "#!/bin/sh\necho found\n");
    chmodSync(join(bin, "only-here"), 0o755);
    for (const shell of ["bash", "sh"] as const) {
      const environment = await preparedAs(user, shell);
      const { text } = await runOps(environment, source("only-here", 'printf "%s\\n" "$HTTPS_PROXY" "${OTHER-none}"'));
      expect(text).toBe(`found\n${proxy}\nnone\n`);
    }
  });

  test("where the profiles end the shell or read its input, scripts that do without them still run", async () => {
    for (const profile of ["exit 3\n", "cat >/dev/null\n", "exec sleep 98771\n"]) {
      const environment = await preparedAs(userWith(profile), "bash");
      expect(await runOps(environment, source("id -u >/dev/null", "exit 4")), profile).toMatchObject({ code: 4 });
    }
    expect(execFileSync("ps", ["-axww", "-o", "args="]).toString()).not.toMatch(/^sleep 98771$/m);
  });

  test("a file that the account itself may not read is the job's failure", async () => {
    const environment = await preparedAs(userWith(":\n"), "bash");
    const { root } = environment.workspace;
    await runOps(environment, source(`mkdir -p ${root}; echo x > ${root}/closed; chmod 0 ${root}/closed`));
    const select = { globs: ["closed"], exclude: [], untracked: false };
    const { paths } = await environment.workspace.list(select, never);
    const { tar } = await environment.workspace.pack(paths, never);
    const packing = tar.resume().toArray();
    await expect(packing).rejects.toBeInstanceOf(ScriptFailure);
    await expect(packing).rejects.toThrow(/closed: Cannot open: Permission denied/);
  });

  test("a logout file does not spoil the status of a script", async () => {
    const user = userWith(":\n");
    writeFileSync(join(user.home, ".bash_logout"), 'if [ "$SHLVL" = 1 ]; then no-console-here; fi\n');
    const environment = await preparedAs(user, "bash");
    expect(await runOps(environment, source("exit 7"), { login: true })).toMatchObject({ code: 7 });
  });

  test.each([
    ["busybox alone", []],
    ["busybox without tar", ["tar"]],
  ] as const)("files go to and fro on a host that has %s", async (_, without) => {
    const user = stand.sshd.addUser();
    const bin = toolDirectory(join(user.home, "bin"), "busybox", without);
    symlinkSync("/usr/bin/git", join(bin, "git"));
    writeFileSync(join(user.home, ".profile"), `PATH=${bin}\n`);
    const environment = await preparedAs(user, "sh");
    const { root } = environment.workspace;
    const made = await runOps(environment, [
      { op: "mkdir", path: root },
      { op: "cd", path: root },
      ...source(
        "command -v tar || echo no tar",
        "mkdir -p out/deep; printf 'a\\0b\\n' >out/a; chmod 750 out/a; touch -d '2001-02-03 04:05:06' out/a; ln -s ../a out/deep/link",
        'seq 1 200000 >out/deep/large; : >out/empty; echo odd >"out/it\'s \\$x"',
      ),
    ]);
    expect(made.text).toBe(without.length === 0 ? `${bin}/tar\n` : "no tar\n");
    const list = await environment.workspace.list({ globs: ["out/"], exclude: [], untracked: false }, never);
    const { tar, warnings } = await environment.workspace.pack(list.paths, never);
    const chunks: Buffer[] = [];
    for await (const chunk of tar) chunks.push(chunk);
    expect(warnings).toEqual([]);
    await runOps(environment, [{ op: "cd", path: root }, ...source("rm -rf out")]);
    const limits = { bytes: 1e9, entries: 100, freeBytes: 0 };
    await environment.workspace.unpack(Readable.from(chunks, { objectMode: false }), limits, never);
    const { text } = await runOps(environment, [
      { op: "cd", path: root },
      ...source(
        "stat -c '%a' out/a; wc -c <out/a; readlink out/deep/link; tail -n 1 out/deep/large; cat out/it*; ls out | wc -l",
      ),
    ]);
    expect(text.replaceAll(" ", "")).toBe("750\n4\n../a\n200000\nodd\n4\n");
    expect(statSync(join(root, "out/a")).mtimeMs % 60_000).toBe(6000);
  });

  test("a home that cannot be written, or is not there, is named with what to do", async () => {
    const user = stand.sshd.addUser();
    const failureOf = async (): Promise<string> =>
      String(await preparedAs(user, "bash").catch((error: unknown) => error));
    chownSync(user.home, 0, 0);
    chmodSync(user.home, 0o755);
    expect(await failureOf()).toMatch(/cannot make the directory .*builds.*Permission denied.*set builds_dir/);
  });
});
