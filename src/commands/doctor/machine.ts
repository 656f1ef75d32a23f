import { execFile } from "node:child_process";
import { constants } from "node:fs";
import { access, lstat, stat, statfs } from "node:fs/promises";
import { promisify } from "node:util";
import type { Config } from "../../config/config.ts";
import { controlFile, createControlClient, NobodyListens } from "../../control/client.ts";
import { statusSchema } from "../../control/protocol.ts";
import { describeError } from "../../errors.ts";
import type { CommandContext } from "../context.ts";
import { checkAddresses } from "./addresses.ts";
import { type Finding, type Note, ok } from "./finding.ts";
import { checkLimits } from "./limits.ts";
import { checkPrograms } from "./programs.ts";
import { checkService } from "./service-state.ts";

const run = promisify(execFile);

/** Checks what the runner needs of this machine, whatever its coordinators say. */
export async function checkMachine(config: Config, context: CommandContext): Promise<Note[]> {
  const checks = [checkState, checkRunning, checkService, checkPrograms, checkUser, checkLimits];
  return (await Promise.all(checks.map((check) => check(config, context)))).flat();
}

async function checkState({ stateDir, minFreeDiskBytes, admission }: Config): Promise<Note[]> {
  const finding = (cause: string, remedy: string): Finding => ({
    severity: "error",
    check: "state directory",
    of: stateDir,
    cause,
    remedy,
  });
  const found = await stat(stateDir).catch(() => null);
  if (found === null) return [ok("state directory", stateDir, "it is made at the first start")];
  if (!found.isDirectory()) return [finding("is no directory", "Remove it, or set state_dir to another place")];
  const notes: Note[] = [];
  if ((found.mode & 0o022) !== 0 && process.platform !== "win32") {
    notes.push(
      finding(
        "can be written by other accounts, which can then replace what the runner trusts",
        `Run: chmod go-w ${stateDir}`,
      ),
    );
  }
  if (process.platform === "win32") {
    const { strangersIn } = await import("./windows-rights.ts");
    const groups = await strangersIn(stateDir);
    if (groups.length > 0) {
      notes.push({
        severity: "warning",
        check: "state directory",
        of: stateDir,
        cause: `can be read by ${groups.join(", ")}: traces and records of jobs lie there`,
        remedy: `As administrator, run: icacls "${stateDir}" /inheritance:r /grant:r "*S-1-5-18:(OI)(CI)F" "*S-1-5-32-544:(OI)(CI)F" "*S-1-3-4:(OI)(CI)F" (the system, administrators, and the owner; add the runner's account where it is another one)`,
      });
    }
  }
  const problem = await access(stateDir, constants.W_OK).then(() => null, describeError);
  if (problem !== null)
    notes.push(
      finding(`cannot be written: ${problem}`, "Give it to the runner's account, or remount its disk for writing"),
    );
  const { bavail, bsize, files, ffree } = await statfs(stateDir);
  const free = bavail * bsize;
  const shown = `${Math.round(free / 1024 ** 2)} MiB free`;
  if (free < minFreeDiskBytes) {
    notes.push(
      finding(`its disk has ${shown}, less than min_free_disk: no job is asked for`, "Make room, or set min_free_disk"),
    );
  }
  if (files > 0 && ffree === 0)
    notes.push(finding("its disk has no inode left", "Remove files: there are too many small ones"));
  else if (files > 0 && ffree < admission.minFreeInodes) {
    const few = `its disk has ${ffree} inodes left, less than min_free_inodes: no job is asked for`;
    notes.push(finding(few, "Remove files: there are too many small ones. Or set min_free_inodes in [admission]"));
  }
  return notes.length > 0 ? notes : [ok("state directory", stateDir, shown)];
}

async function checkRunning(config: Config, context: CommandContext): Promise<Note[]> {
  const { stateDir, file } = config;
  const client = createControlClient({ stateDir, named: file, uid: context.uid });
  try {
    const { pid, state, version } = await client.get("status", statusSchema);
    // Its addresses are its own.
    return [ok("runner", "", `${version} is ${state} as process ${pid}`)];
  } catch (error) {
    const left = await lstat(controlFile(stateDir)).then(
      () => true,
      () => false,
    );
    if (!left) return [ok("runner", "", "it is not running"), ...(await checkAddresses(config))];
    const remedy = "Start it: it cleans up and reports what was left. Its log tells why it ended";
    return [
      {
        severity: "warning",
        check: "runner",
        of: "",
        cause:
          error instanceof NobodyListens
            ? `it has ended without ending its work: nobody listens at ${controlFile(stateDir)}`
            : `it has ended without ending its work, or cannot be reached: ${describeError(error)}`,
        remedy,
      },
    ];
  }
}

async function checkUser({ user }: Config, { uid }: CommandContext): Promise<Note[]> {
  if (user === undefined || process.platform === "win32") return [];
  const finding = (cause: string, remedy: string): Finding => ({
    severity: "error",
    check: "account",
    of: user,
    cause,
    remedy,
  });
  const problem = await run("id", ["-u", user], { timeout: 10_000 }).then(() => null, describeError);
  if (problem !== null)
    return [finding("does not exist on this machine", `Create it (useradd ${user}), or correct user`)];
  if (uid !== 0)
    return [finding("scripts can run as it only where the runner is root", "Run it as root, or remove user")];
  return [ok("account", user, "exists")];
}
