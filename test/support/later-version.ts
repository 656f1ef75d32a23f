import { execFile } from "node:child_process";
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
const top = join(import.meta.dirname, "../..");

/** What a binary and its packages are made of, besides what npm installs. */
const SOURCES = ["src", "executors", "shells", "scripts", "packaging"];
const FILES = ["package.json", "tsconfig.json", "LICENSE", "README.md", "CHANGELOG.md", "config.example.toml"];

export const LATER = "2.1.0";

/**
 * Packages of a version that is not there yet: its jobs are kept in a format that this one does not know, besides which it knows
 * this one's. It is made of these sources, with nothing else changed.
 * @param out the directory that they are put into
 */
export async function makeLaterPackages(out: string): Promise<void> {
  const tree = await mkdtemp(join(tmpdir(), "alloy-later-"));
  try {
    for (const name of [...SOURCES, ...FILES]) await cp(join(top, name), join(tree, name), { recursive: true });
    await symlink(join(top, "node_modules"), join(tree, "node_modules"));
    await change(join(tree, "package.json"), /"version": "[^"]*"/, `"version": "${LATER}"`);
    await change(
      join(tree, "src/journal/live/life.ts"),
      /(LIFE_FORMATS[^=]*= \[[\d, ]*?)(\d+)\]/,
      (_, before, last) => {
        return `${before}${last}, ${Number(last) + 1}]`;
      },
    );
    for (const argv of [
      ["scripts/bundle.mjs"],
      ["scripts/binary.mjs", "--no-smoke"],
      ["scripts/packages.mjs", process.arch, "--fast", "--out", out],
    ]) {
      await run(process.execPath, argv, { cwd: tree });
    }
  } finally {
    await rm(tree, { recursive: true, force: true });
  }
}

async function change(
  file: string,
  from: RegExp,
  to: string | ((whole: string, ...groups: string[]) => string),
): Promise<void> {
  const before = await readFile(file, "utf8");
  const after = typeof to === "string" ? before.replace(from, to) : before.replace(from, to);
  if (after === before) throw new Error(`${file} has nothing like ${from}`);
  await writeFile(file, after);
}
