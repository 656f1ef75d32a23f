#!/usr/bin/env node
// Compiles dist/alloy-runner.cjs with Bun into one executable per target and smoke-tests the one for this machine.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const top = join(dirname(fileURLToPath(import.meta.url)), "..");
const here = `${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`;
const targets = process.argv.slice(2).filter((word) => !word.startsWith("-"));
if (process.argv.includes("--help")) {
  console.log(`Use: npm run binary [-- TARGET ...]
Makes out/alloy-runner-TARGET from dist/alloy-runner.cjs; without TARGET for this machine (${here}).
TARGET: linux-x64, linux-arm64. The one for this machine is tried out: --version, list, demo.
--no-smoke leaves the trial out.`);
  process.exit(0);
}
if (targets.length === 0) targets.push(here);

const bun = join(top, "node_modules/bun/bin/bun.exe");
const bundle = join(top, "dist/alloy-runner.cjs");
if (!existsSync(bundle)) fail("dist/alloy-runner.cjs is missing: run `npm run build` first");
mkdirSync(join(top, "out"), { recursive: true });

for (const target of targets) {
  const scratch = mkdtempSync(join(tmpdir(), "alloy-runner-binary-"));
  try {
    // The file name is part of the bytes: compiled under the same name for every target, so that builds are reproducible.
    const made = join(scratch, "alloy-runner");
    const args = ["build", "--compile", "--minify", "--bytecode", "--format=cjs"];
    args.push("--no-compile-autoload-dotenv", "--no-compile-autoload-bunfig");
    if (target !== here) args.push(`--target=bun-${target}`);
    run(bun, [...args, bundle, "--outfile", made]);
    const out = join(top, "out", `alloy-runner-${target}`);
    rmSync(out, { force: true });
    run("cp", [made, `${out}.new`]);
    renameSync(`${out}.new`, out);
    console.log(`out/alloy-runner-${target}: ${(statSync(out).size / 1e6).toFixed(1)} MB`);
    if (target === here && !process.argv.includes("--no-smoke")) smoke(out);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** The binary starts, reads a config and runs a job to success, in a directory of its own. */
function smoke(binary) {
  const home = mkdtempSync(join(tmpdir(), "alloy-runner-smoke-"));
  const env = { PATH: process.env.PATH, HOME: home, TMPDIR: home, LANG: "C.UTF-8" };
  try {
    for (const args of [["--version"], ["list", "--config", join(home, "config.toml")], ["demo"]]) {
      const result = spawnSync(binary, args, { cwd: home, env, encoding: "utf8", timeout: 120_000 });
      if (result.status !== 0) {
        fail(
          `smoke test: "alloy-runner ${args.join(" ")}" ended with ${result.status}\n${result.stdout}${result.stderr}`,
        );
      }
      console.log(`smoke test: alloy-runner ${args[0]} is fine`);
    }
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
}

function run(command, args) {
  const result = spawnSync(command, args, { stdio: ["ignore", "pipe", "inherit"], encoding: "utf8" });
  if (result.status !== 0) fail(`${command} ${args.join(" ")} ended with ${result.status}\n${result.stdout}`);
}

function fail(message) {
  console.error(message);
  process.exit(1);
}
