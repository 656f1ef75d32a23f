import { execFile, execFileSync, spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { chmod, copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { startCoordinator } from "../../src/local/coordinator/coordinator.ts";

const run = promisify(execFile);
const top = join(import.meta.dirname, "../..");
const here = `${process.platform}-${process.arch}`;

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "alloy-binaries-"));
});
afterEach(async () => rm(dir, { recursive: true, force: true }));

/** Skips a test in development; in CI, which must have everything, it is an error. */
function lacking(what: string, present: boolean): string | null {
  if (!present && process.env.CI === "true") throw new Error(`the tests of the binaries need ${what}`);
  return present ? null : `needs ${what}`;
}

const textSha256 = (text: string): string => createHash("sha256").update(text).digest("hex");

const sha256 = async (file: string): Promise<string> =>
  createHash("sha256")
    .update(await readFile(file))
    .digest("hex");

/** Makes another tree with the same sources and modules, so that nothing in this one is changed. */
async function otherTree(): Promise<string> {
  const tree = join(dir, "somewhere", "else");
  await mkdir(tree, { recursive: true });
  const names = [
    "src",
    "executors",
    "shells",
    "scripts",
    "packaging",
    "package.json",
    "package-lock.json",
    "tsconfig.json",
  ];
  for (const name of names) execFileSync("cp", ["-a", join(top, name), tree]);
  execFileSync("ln", ["-s", join(top, "node_modules"), join(tree, "node_modules")]);
  return tree;
}

test("two trees with the same sources make the same bundle and the same binary", async () => {
  const sums: string[] = [];
  for (const name of ["a", "b/c"]) {
    const tree = await otherTree();
    const moved = join(dir, name);
    await mkdir(join(moved, ".."), { recursive: true });
    execFileSync("mv", [tree, moved]);
    await run(process.execPath, ["scripts/bundle.mjs"], { cwd: moved });
    await run(process.execPath, ["scripts/binary.mjs", "--no-smoke", here], { cwd: moved });
    const names = (await readdir(join(moved, "dist"), { recursive: true }))
      .filter((file) => file.endsWith(".mjs"))
      .sort();
    const bundle = await Promise.all(names.map(async (file) => await readFile(join(moved, "dist", file), "utf8")));
    expect(bundle.join()).not.toContain(dir);
    expect(bundle.join()).not.toContain(top);
    sums.push(
      `${textSha256([...names, ...bundle].join("\n"))} ${await sha256(join(moved, `out/alloy-runner-${here}`))}`,
    );
    await rm(moved, { recursive: true });
  }
  expect(sums[0]).toBe(sums[1]);
}, 300_000);

const ARM64 = "/usr/aarch64-linux-gnu";
const noQemu = lacking(
  "qemu-aarch64-static and libc6-arm64-cross",
  process.arch === "arm64" || (existsSync("/usr/bin/qemu-aarch64-static") && existsSync(`${ARM64}/lib/libc.so.6`)),
);

describe.skipIf(noQemu !== null)(`linux-arm64${noQemu === null ? "" : ` (skipped: ${noQemu})`}`, () => {
  test("says its version, is registered by flags, and runs a job to success", async () => {
    await run(process.execPath, ["scripts/binary.mjs", "linux-arm64", "--no-smoke"], { cwd: top });
    // The program starts itself again for some of its work, so the command that starts it must be one file.
    const runner = join(dir, "alloy-runner");
    const binary = join(top, "out/alloy-runner-linux-arm64");
    const emulated = process.arch === "arm64" ? binary : `qemu-aarch64-static -L ${ARM64} ${binary}`;
    await writeFile(runner, `#!/bin/sh\nexec ${emulated} "$@"\n`);
    await chmod(runner, 0o755);
    const env = { PATH: process.env.PATH, HOME: dir, TMPDIR: dir, LANG: "C.UTF-8" };
    const { stdout } = await run(runner, ["--version"], { env });
    expect(stdout).toContain("platform linux/arm64");

    const coordinator = await startCoordinator({ dialect: "alloy" });
    const config = join(dir, "config.toml");
    try {
      const flags = [
        "--non-interactive",
        "--url",
        coordinator.url,
        "--registration-token",
        coordinator.registrationToken,
      ];
      await run(runner, ["register", "--config", config, ...flags, "--name", "arm", "--executor", "shell"], { env });
      const state = `state_dir = "${join(dir, "state")}"\n`;
      await writeFile(config, state + (await readFile(config, "utf8")), { mode: 0o600 });
      const started = spawn(runner, ["run", "--config", config, "--working-directory", dir], { env, stdio: "ignore" });
      const ended = new Promise((resolve) => started.once("close", resolve));
      try {
        const job = coordinator.enqueue({ script: ["echo hello from $CI_JOB_ID", "exit 0"] });
        await job.finished({ timeoutMs: 120_000 });
        expect(job.status).toBe("success");
        expect(job.trace).toContain(`hello from ${job.id}`);
      } finally {
        started.kill("SIGTERM");
        await ended;
      }
    } finally {
      await coordinator.close();
    }
  }, 300_000);
});

interface MachO {
  adhocSign(program: Buffer, identifier: string): Buffer;
  checkSignature(program: Buffer): { pages: number; wrong: number };
}

/** A Mach-O for macOS with a text and a link-edit segment, with or without a signature that is wrong. */
function machO({ signed }: { signed: boolean }): Buffer {
  const file = Buffer.alloc(0x9000, 0x90);
  file.fill(0, 0, 0x1000);
  const segment = (at: number, name: string, offset: number, size: number): void => {
    file.writeUInt32LE(0x19, at);
    file.writeUInt32LE(72, at + 4);
    file.write(name, at + 8, "latin1");
    file.writeBigUInt64LE(BigInt(offset), at + 40);
    file.writeBigUInt64LE(BigInt(size), at + 48);
  };
  file.writeUInt32LE(0xfeedfacf, 0);
  file.writeUInt32LE(2, 12);
  file.writeUInt32LE(signed ? 3 : 2, 16);
  file.writeUInt32LE(signed ? 160 : 144, 20);
  segment(32, "__TEXT", 0, 0x8000);
  segment(104, "__LINKEDIT", 0x8000, 0x1000);
  if (signed) {
    file.writeUInt32LE(0x1d, 176);
    file.writeUInt32LE(16, 180);
    file.writeUInt32LE(0x8800, 184);
    file.writeUInt32LE(0x800, 188);
  }
  return file;
}

describe("signatures for macOS", async () => {
  const path = join(top, "scripts/adhoc-sign.mjs");
  const { adhocSign, checkSignature }: MachO = await import(path);

  test.each([true, false])("each page is right after signing (signed before: %s)", (signed) => {
    const made = adhocSign(machO({ signed }), "alloy-runner");
    expect(checkSignature(made)).toEqual({ pages: 9, wrong: 0 });
    made[0x5000] = 1;
    expect(checkSignature(made)).toEqual({ pages: 9, wrong: 1 });
    expect(adhocSign(adhocSign(machO({ signed }), "alloy-runner"), "alloy-runner")).toEqual(
      adhocSign(machO({ signed }), "alloy-runner"),
    );
  });

  test("what is no such program is refused", () => {
    expect(() => adhocSign(Buffer.from("#!/bin/sh\n"), "x")).toThrow("not a thin 64-bit Mach-O");
    expect(() => checkSignature(machO({ signed: false }))).toThrow("not signed");
  });
});

test("a target that is not known, and a runtime that is not the expected one, are refused", async () => {
  const unknown = spawnSync(process.execPath, ["scripts/binary.mjs", "plan9-x64"], { cwd: top, encoding: "utf8" });
  expect(unknown.status).toBe(1);
  expect(unknown.stderr).toContain("no target is named plan9-x64; there are linux-x64");
  // A package whose bytes differ from what the lock file says.
  const tree = await otherTree();
  const lock = await readFile(join(tree, "package-lock.json"), "utf8");
  const broken = lock.replace(
    /("node_modules\/@oven\/bun-linux-x64-musl": \{[^}]*"integrity": "sha512-)[^"]+/,
    "$1AAAA",
  );
  expect(broken).not.toBe(lock);
  await writeFile(join(tree, "package-lock.json"), broken);
  await mkdir(join(tree, "dist"));
  await copyFile(join(top, "dist/alloy-runner.mjs"), join(tree, "dist/alloy-runner.mjs"));
  // This npm brings another file, so that nothing is fetched for the test.
  await mkdir(join(dir, "bin"));
  const npm =
    '#!/bin/sh\nfor last; do :; done\nwhile [ "$1" != --pack-destination ]; do shift; done\necho wrong >"$2/x.tgz"\n';
  await writeFile(join(dir, "bin/npm"), npm, { mode: 0o755 });
  const refused = spawnSync(process.execPath, ["scripts/binary.mjs", "linux-x64-musl"], {
    cwd: tree,
    encoding: "utf8",
    env: { ...process.env, PATH: `${join(dir, "bin")}:${process.env.PATH}`, XDG_CACHE_HOME: join(dir, "cache") },
  });
  expect(refused.status).toBe(1);
  expect(refused.stderr).toContain("@oven/bun-linux-x64-musl@1.4.4 is not what package-lock.json expects");
});
