import { execFile } from "node:child_process";
import { createHmac, randomInt } from "node:crypto";
import { link, mkdir, readFile, rename, unlink, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { promisify } from "node:util";
import { errorCode } from "../config/error-code.ts";
import { defaultStateDir, usualConfigFile } from "../config/locations.ts";
import { describeError } from "../errors.ts";
import type { CommandContext } from "./context.ts";

/** As GitLab Runner calls it: a machine that comes from there stays the one that GitLab knows. */
const FILE = ".runner_system_id";
const SHAPE = /^[rs]_[0-9A-Za-z]{12}$/;
/** What GitLab Runner signs with the machine's id. */
const SIGNED = "gitlab-runner";
const LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

export interface SystemIdOptions extends Pick<CommandContext, "env" | "uid" | "cwd"> {
  /** The configuration that is in use, absolute. */
  readonly config: string;
  /** Whether one that was made is written down. */
  readonly keep: boolean;
  /** Told that it could not be. */
  readonly say: (text: string) => void;
  /** The machine's own id; default: as the platform tells. */
  readonly machineId?: () => Promise<string>;
}

/**
 * Identifies this machine at GitLab; AlloyCI ignores it. What `.runner_system_id` says beside the configuration, in the usual
 * directory of configurations or in the state directory counts. Without it the id is `s_` and 12 hex digits made from the
 * machine's id, which they do not give away, or `r_` and 12 random letters, and is written there. It is never made of a name:
 * those of containers do not last.
 */
export async function systemId(options: SystemIdOptions): Promise<string> {
  const { config, keep, say } = options;
  const beside = join(dirname(config), FILE);
  const usual = join(dirname(usualConfigFile(options.env, options.uid, options.cwd)), FILE);
  for (const path of new Set([beside, usual])) {
    const kept = await read(path);
    if (kept !== undefined) return kept;
  }
  const inState = join(await stateDirOf(options), FILE);
  const kept = await read(inState);
  if (kept !== undefined) return kept;
  const machine = (await (options.machineId ?? machineId)().catch(() => "")).trim();
  const made = machine === "" ? `r_${randomLetters(12)}` : `s_${signed(machine)}`;
  if (!keep) return made;
  const problems: string[] = [];
  for (const path of [beside, inState]) {
    const written = await write(path, made, { makeDirectory: path === inState }).catch((error: unknown) => {
      problems.push(describeError(error));
      return undefined;
    });
    if (written !== undefined) return written;
  }
  say(
    `this machine's id at GitLab cannot be kept (${problems.join("; ")}): write ${made} to ${beside}, or it may be another machine there after each start`,
  );
  return made;
}

async function read(path: string): Promise<string | undefined> {
  const text = (await readFile(path, "utf8").catch(() => "")).trim();
  return SHAPE.test(text) ? text : undefined;
}

/** @returns what stands there then: somebody else may have been quicker */
async function write(path: string, id: string, { makeDirectory }: { makeDirectory: boolean }): Promise<string> {
  if (makeDirectory) await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const temporary = `${path}.${randomLetters(8)}`;
  await writeFile(temporary, `${id}\n`, { mode: 0o600, flag: "wx" });
  try {
    await link(temporary, path).catch(async (error: unknown) => {
      if (errorCode(error) === "EEXIST" && (await read(path)) !== undefined) throw error;
      // What is there is no id, or this is a disk without links.
      await rename(temporary, path);
    });
  } catch (error) {
    const theirs = await read(path);
    if (theirs === undefined) throw error;
    return theirs;
  } finally {
    await unlink(temporary).catch(() => {});
  }
  return id;
}

/** The state directory, as far as it is known before the configuration is checked. */
async function stateDirOf({ config, env, uid, cwd }: SystemIdOptions): Promise<string> {
  const usual = resolve(cwd, defaultStateDir(env, uid, cwd));
  try {
    // Next to never needed, and not by every command.
    const { readToml } = await import("../config/file/toml.ts");
    const { readConfigFile } = await import("../config/file/read.ts");
    const { state_dir: named } = readToml((await readConfigFile(config))?.text ?? "", config).data;
    return typeof named === "string" && named !== "" ? resolve(dirname(config), named) : usual;
  } catch {
    return usual;
  }
}

function randomLetters(count: number): string {
  return Array.from({ length: count }, () => LETTERS[randomInt(LETTERS.length)]).join("");
}

function signed(machine: string): string {
  return createHmac("sha256", machine).update(SIGNED).digest("hex").slice(0, 12);
}

/** Empty where there is none, or one that is the same on many machines. */
async function machineId(): Promise<string> {
  const from = async (file: string): Promise<string> => await readFile(file, "utf8").catch(() => "");
  const said = async (program: string, args: readonly string[], pattern: RegExp): Promise<string> => {
    const { stdout } = await promisify(execFile)(program, args, { timeout: 5000 });
    return pattern.exec(stdout)?.[1] ?? "";
  };
  switch (process.platform) {
    case "darwin":
      return await said("/usr/sbin/ioreg", ["-rd1", "-c", "IOPlatformExpertDevice"], /"IOPlatformUUID" = "([^"]+)"/);
    case "win32":
      return await said(
        "reg.exe",
        ["query", "HKLM\\SOFTWARE\\Microsoft\\Cryptography", "/v", "MachineGuid"],
        /MachineGuid\s+REG_SZ\s+(\S+)/,
      );
    case "freebsd":
    case "openbsd":
      return (await from("/etc/hostid")).trim() || (await said("kenv", ["-q", "smbios.system.uuid"], /^(\S+)/));
    default:
      for (const file of ["/var/lib/dbus/machine-id", "/etc/machine-id"]) {
        const id = (await from(file)).trim();
        if (/^[0-9a-f]{32}$/.test(id)) return id;
      }
      return "";
  }
}
