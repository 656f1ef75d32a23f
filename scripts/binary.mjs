#!/usr/bin/env node
// Compiles dist/alloy-runner.mjs with Bun into one executable per target and smoke-tests the one for this machine.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { adhocSign, checkSignature } from "./adhoc-sign.mjs";
import { unpackRuntime } from "./runtimes.mjs";
import { fileOf, here, targets } from "./targets.mjs";

const top = join(dirname(fileURLToPath(import.meta.url)), "..");
const flags = new Set(process.argv.slice(2).filter((word) => word.startsWith("-")));
const named = process.argv.slice(2).filter((word) => !word.startsWith("-"));
if (flags.has("--help")) {
  console.log(`Use: npm run binary [-- TARGET ...]     for this machine (${here}), or for those named
     npm run binaries [-- --twice]      for all targets, with out/SHA256SUMS
Makes out/alloy-runner-TARGET from dist/alloy-runner.mjs. The one for this machine is tried out: --version, list, demo.
TARGET: ${Object.keys(targets).join(", ")}.
--no-smoke leaves the trial out. --twice makes each a second time and compares: the same sources give the same bytes.
Bun's runtimes for other targets come from the npm registry, are kept in ~/.cache/alloy-runner and checked at each use.`);
  process.exit(0);
}
const known = new Set(["--all", "--no-smoke", "--twice"]);
const unknown = [...flags].find((flag) => !known.has(flag));
if (unknown !== undefined) fail(`${unknown} is not known; see --help`);
const wanted = flags.has("--all") ? Object.keys(targets) : named.length > 0 ? named : [here];
for (const target of wanted) {
  if (!(target in targets)) fail(`no target is named ${target}; there are ${Object.keys(targets).join(", ")}`);
}

const bun = join(top, "node_modules/bun/bin/bun.exe");
const bundle = join(top, "dist/alloy-runner.mjs");
if (!existsSync(bundle)) fail("dist/alloy-runner.mjs is missing: run `npm run build` first");
mkdirSync(join(top, "out"), { recursive: true });

const sums = [];
for (const target of wanted) {
  const out = join(top, "out", fileOf(target));
  const sum = make(target, out);
  if (flags.has("--twice")) {
    const again = make(target, `${out}.again`);
    rmSync(`${out}.again`, { force: true });
    if (again !== sum) fail(`${fileOf(target)} is not reproducible: ${sum}, then ${again}`);
  }
  sums.push(`${sum}  ${fileOf(target)}\n`);
  const note = flags.has("--twice") ? ", the same bytes twice" : "";
  console.log(`out/${fileOf(target)}: ${(statSync(out).size / 1e6).toFixed(1)} MB${note}`);
  if (target === here && !flags.has("--no-smoke")) smoke(out);
}
if (wanted.includes("windows-x64")) makeServiceHost();
if (flags.has("--all")) writeFileSync(join(top, "out/SHA256SUMS"), sums.join(""));

/** Makes `out` for `target`. @returns its sha256, in hex */
function make(target, out) {
  const scratch = mkdtempSync(join(tmpdir(), "alloy-runner-binary-"));
  try {
    // The file name is part of the bytes: compiled under the same name for every target, so that builds are reproducible.
    const made = join(scratch, "alloy-runner");
    const args = ["build", "--compile", "--minify", "--bytecode", "--format=esm", "--splitting"];
    args.push("--no-compile-autoload-dotenv", "--no-compile-autoload-bunfig");
    if (target !== here) {
      args.push(`--target=bun-${target}`, `--compile-executable-path=${unpackRuntime(target, scratch, top)}`);
    }
    run(bun, [...args, bundle, "--outfile", made]);
    const file = target.startsWith("windows") ? `${made}.exe` : made;
    if (target.startsWith("darwin")) sign(target, file);
    rmSync(out, { force: true });
    run("cp", [file, `${out}.new`]);
    renameSync(`${out}.new`, out);
    return createHash("sha256").update(readFileSync(out)).digest("hex");
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** What answers Windows' service manager: a small C program, made with Debian's mingw. */
function makeServiceHost() {
  const name = "alloy-runner-service-windows-x64.exe";
  const out = join(top, "out", name);
  const source = join(top, "packaging/windows/service.c");
  // No time stamp: the same source gives the same bytes.
  const args = ["-Os", "-s", "-Wall", "-Wextra", "-Werror", "-municode", "-static", "-Wl,--no-insert-timestamp"];
  const { error, status, stderr } = spawnSync("x86_64-w64-mingw32-gcc", [...args, "-o", `${out}.new`, source], {
    encoding: "utf8",
  });
  if (error?.code === "ENOENT") {
    console.error(`out/${name} is left out: it needs Debian's package gcc-mingw-w64-x86-64-win32`);
    return;
  }
  if (status !== 0) fail(`${source} cannot be compiled\n${stderr}`);
  renameSync(`${out}.new`, out);
  sums.push(`${createHash("sha256").update(readFileSync(out)).digest("hex")}  ${name}\n`);
  console.log(`out/${name}: ${(statSync(out).size / 1e3).toFixed(0)} kB`);
}

/** Bun signs for arm64; for x64 it leaves the signature of its own runtime behind, which fits no more. */
function sign(target, file) {
  if (target === "darwin-x64") writeFileSync(file, adhocSign(readFileSync(file), "alloy-runner"));
  const { pages, wrong } = checkSignature(readFileSync(file));
  if (wrong > 0) fail(`${fileOf(target)}: ${wrong} of ${pages} pages do not fit the signature`);
  console.log(`${fileOf(target)}: signed ad hoc, ${pages} pages checked`);
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
