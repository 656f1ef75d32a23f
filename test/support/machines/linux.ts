import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { builtBy } from "../built.ts";
import { machinesMissing } from "./machines.ts";

const RELEASE = "/etc/os-release";

/** Why no guest can boot a kernel of its own here; `null`: it can. */
export function linuxMissing(): string | null {
  const missing = machinesMissing();
  if (missing !== null) return missing;
  if (process.arch !== "x64") return "needs x86-64";
  // The kernel comes from Debian's packages, whose names and places are those of this release.
  if (!existsSync(RELEASE) || !/^VERSION_CODENAME=bookworm$/m.test(readFileSync(RELEASE, "utf8"))) {
    return "needs Debian 12";
  }
  return existsSync("/usr/bin/qemu-system-x86_64") ? null : "needs /usr/bin/qemu-system-x86_64";
}

/** What QEMU boots: the text of the file `linux` of machines. Built where it is missing, which takes half a minute. */
export async function buildLinux(): Promise<string> {
  return await builtBy(join(import.meta.dirname, "linux/build.sh"));
}
