#!/usr/bin/env node
// Makes .deb and .rpm packages of the Linux binaries, with dpkg-deb and rpmbuild.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  cpSync,
  existsSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { debianControl, layOut, rpmSpec } from "./package-files.mjs";
import { fileOf } from "./targets.mjs";

const top = join(dirname(fileURLToPath(import.meta.url)), "..");
const architectures = { x64: { deb: "amd64", rpm: "x86_64" }, arm64: { deb: "arm64", rpm: "aarch64" } };
const words = process.argv.slice(2);
if (words.includes("--help")) {
  console.log(`Use: npm run packages [-- x64|arm64 ...] [--fast] [--out DIR] [--version VERSION]
Makes out/alloy-runner_VERSION_ARCH.deb and out/alloy-runner-VERSION-1.ARCH.rpm from out/alloy-runner-linux-*, for all
architectures or those named, with dpkg-deb and rpmbuild (Debian's packages dpkg and rpm). The same sources give the same bytes;
SOURCE_DATE_EPOCH is the date in them, by default that of the commit. --fast compresses less, for trials.`);
  process.exit(0);
}
const textOf = (flag) => (words.includes(flag) ? words.splice(words.indexOf(flag), 2)[1] : undefined);
const out = textOf("--out") ?? join(top, "out");
const version = textOf("--version") ?? JSON.parse(readFileSync(join(top, "package.json"), "utf8")).version;
const fast = words.includes("--fast");
const named = words.filter((word) => !word.startsWith("-"));
const wanted = named.length > 0 ? named : Object.keys(architectures);
const epoch = Number(process.env.SOURCE_DATE_EPOCH || commitTime());
const date = new Date(epoch * 1000);
const env = { ...process.env, SOURCE_DATE_EPOCH: String(epoch), LC_ALL: "C", TZ: "UTC" };

if (!existsSync(join(top, "dist/alloy-runner.mjs")))
  fail("dist/alloy-runner.mjs is missing: run `npm run build` first");
mkdirSync(out, { recursive: true });
for (const arch of wanted) {
  const names = architectures[arch];
  if (names === undefined) fail(`no packages are made for ${arch}; there are ${Object.keys(architectures).join(", ")}`);
  const binary = join(top, "out", fileOf(`linux-${arch}`));
  if (!existsSync(binary)) fail(`${binary} is missing: run \`npm run binary -- linux-${arch}\` first`);
  const scratch = mkdtempSync(join(tmpdir(), "alloy-runner-package-"));
  try {
    finish(makeDeb(scratch, binary, names.deb));
    finish(makeRpm(scratch, binary, names.rpm));
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function makeDeb(scratch, binary, arch) {
  const root = join(scratch, "deb");
  layOut({ root, binary, kind: "deb", top, version, date });
  const sums = filesOf(root).map((file) => `${md5(join(root, file))}  ${file}\n`);
  const installedKb = Math.ceil(filesOf(root).reduce((sum, file) => sum + statSync(join(root, file)).size, 0) / 1024);
  mkdirSync(join(root, "DEBIAN"));
  const control = { ...debianControl({ version, arch, installedKb, top }), md5sums: [sums.join(""), 0o644] };
  for (const [name, [text, mode]] of Object.entries(control)) {
    writeFileSync(join(root, "DEBIAN", name), text);
    chmodSync(join(root, "DEBIAN", name), mode);
  }
  setTimes(root);
  const file = join(scratch, `alloy-runner_${version}-1_${arch}.deb`);
  // Compression in one thread: the number of threads would show in the bytes.
  const compression = fast ? ["-Zgzip", "-z1"] : ["-Zxz", "-z6", "--threads-max=1"];
  run("dpkg-deb", ["--build", "--root-owner-group", ...compression, root, file]);
  return file;
}

function makeRpm(scratch, binary, arch) {
  const root = join(scratch, "files");
  layOut({ root, binary, kind: "rpm", top, version, date });
  setTimes(root);
  const spec = join(scratch, "alloy-runner.spec");
  const payload = fast ? "w1.gzdio" : "w6.xzdio";
  const install = `\n%install\ncp -a ${root}/. %{buildroot}/\n\n%files`;
  writeFileSync(
    spec,
    rpmSpec({ version, payload, date, top }).replace("\n%files", () => install),
  );
  const home = join(scratch, "rpm");
  const defines = [`_topdir ${home}`, `_rpmdir ${home}/made`, "_rpmfilename %{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}.rpm"];
  run("rpmbuild", [
    "-bb",
    "--quiet",
    "--nodeps",
    "--target",
    `${arch}-linux`,
    ...defines.flatMap((one) => ["--define", one]),
    spec,
  ]);
  return join(home, "made", `alloy-runner-${version}-1.${arch}.rpm`);
}

/** Into `out/` in one step. */
function finish(made) {
  const name = made.slice(made.lastIndexOf("/") + 1);
  cpSync(made, join(out, `${name}.new`));
  renameSync(join(out, `${name}.new`), join(out, name));
  const sum = createHash("sha256")
    .update(readFileSync(join(out, name)))
    .digest("hex");
  writeFileSync(join(out, `${name}.sha256`), `${sum}  ${name}\n`);
  console.log(`out/${name}: ${(statSync(join(out, name)).size / 1e6).toFixed(1)} MB`);
}

function filesOf(root) {
  return readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1))
    .sort();
}

function setTimes(root) {
  for (const name of ["", ...readdirSync(root, { recursive: true })]) {
    const path = join(root, name);
    if (statSync(path).isDirectory()) chmodSync(path, 0o755);
    lutimesSync(path, epoch, epoch);
  }
}

function md5(file) {
  return createHash("md5").update(readFileSync(file)).digest("hex");
}

function commitTime() {
  const { status, stdout } = spawnSync("git", ["log", "-1", "--format=%ct"], { cwd: top, encoding: "utf8" });
  return status === 0 ? stdout.trim() : "0";
}

function run(command, args) {
  const { status, error, stdout, stderr } = spawnSync(command, args, { encoding: "utf8", env });
  if (error?.code === "ENOENT")
    fail(`${command} is missing: install Debian's package ${command === "rpmbuild" ? "rpm" : "dpkg"}`);
  if (status !== 0) fail(`${command} ${args.join(" ")} ended with ${status ?? error?.message}\n${stdout}${stderr}`);
}

function fail(message) {
  console.error(message);
  process.exit(1);
}
