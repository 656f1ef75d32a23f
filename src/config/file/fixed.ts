import { access, constants, readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { errorCode } from "../error-code.ts";
import { targetOf } from "./replace.ts";

/** Why a configuration file cannot be replaced by a new version, as far as that can be told before it is tried; or null. */
export async function whyFixed(file: string): Promise<string | null> {
  const target = await targetOf(file).catch(() => file);
  if (await isMountPoint(target)) return `${target} is mounted by itself`;
  for (const path of [target, dirname(target)]) {
    const code = await access(path, constants.W_OK).then(() => null, errorCode);
    if (code !== null) return `${path} cannot be written (${code})`;
  }
  return null;
}

/** As a file of a container's often is: it can be written to, but nothing can take its place. */
async function isMountPoint(path: string): Promise<boolean> {
  const text = await readFile("/proc/self/mountinfo", "utf8").catch(() => "");
  const escaped = path.replace(/[ \t\n\\]/g, (c) => `\\${c.charCodeAt(0).toString(8).padStart(3, "0")}`);
  return text.split("\n").some((line) => line.split(" ", 5)[4] === escaped);
}
