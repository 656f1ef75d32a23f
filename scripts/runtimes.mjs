// Bun's runtimes for other targets: packages of the npm registry, fetched once, kept outside the tree, checked at each use.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { targets } from "./targets.mjs";

/**
 * Puts the runtime of `target` into `folder`. The lock file says which version, and by its sha512 which bytes: npm wrote both
 * there when the version was chosen, and what differs is refused.
 * @returns path of the executable
 */
export function unpackRuntime(target, folder, top) {
  const name = `@oven/bun-${targets[target]}`;
  const { packages } = JSON.parse(readFileSync(join(top, "package-lock.json"), "utf8"));
  const { version, integrity } = packages[`node_modules/${name}`] ?? {};
  if (!integrity?.startsWith("sha512-")) throw new Error(`package-lock.json has no sha512 for ${name}`);
  const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "alloy-runner", "runtimes");
  const archive = join(cache, `bun-${targets[target]}-${version}.tgz`);
  if (digest(archive) !== integrity) {
    fetchPackage(`${name}@${version}`, archive, cache);
    const got = digest(archive);
    if (got !== integrity) {
      rmSync(archive, { force: true });
      throw new Error(`${name}@${version} is not what package-lock.json expects: ${got} instead of ${integrity}`);
    }
  }
  run("tar", ["-xzf", archive, "-C", folder, "package/bin"]);
  return join(folder, "package/bin", target.startsWith("windows") ? "bun.exe" : "bun");
}

function fetchPackage(spec, archive, cache) {
  mkdirSync(cache, { recursive: true });
  // A folder of its own, and a rename: builds at the same time do not see each other's halves.
  const arriving = mkdtempSync(join(cache, "arriving-"));
  try {
    console.log(`fetching ${spec}`);
    run("npm", ["pack", "--silent", "--ignore-scripts", "--pack-destination", arriving, spec]);
    const [file] = readdirSync(arriving);
    if (file === undefined) throw new Error(`npm pack ${spec} left no file`);
    renameSync(join(arriving, file), archive);
  } finally {
    rmSync(arriving, { recursive: true, force: true });
  }
}

/** In the notation of the lock file, `null` for a file that is not there. */
function digest(file) {
  try {
    return `sha512-${createHash("sha512").update(readFileSync(file)).digest("base64")}`;
  } catch {
    return null;
  }
}

function run(command, args) {
  const { status, error, stderr } = spawnSync(command, args, { encoding: "utf8", stdio: ["ignore", "ignore", "pipe"] });
  if (status !== 0)
    throw new Error(`${command} ${args.join(" ")} ended with ${status ?? error?.message}\n${stderr ?? ""}`);
}
