import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";

/** An entry of the system's user database. */
export interface Account {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
  readonly shell: string;
}

const run = promisify(execFile);

/** `name:password:uid:gid:gecos:home:shell`, or with class, change and expire before gecos as `id -P` of BSD prints it. */
function parseEntry(line: string): Account | null {
  const fields = line.trim().split(":");
  const [name = "", , uid = "", gid = ""] = fields;
  const home = fields[fields.length - 2] ?? "";
  const shell = fields[fields.length - 1] ?? "";
  if (fields.length < 7 || !/^\d+$/.test(uid) || !/^\d+$/.test(gid)) return null;
  return { name, uid: Number(uid), gid: Number(gid), home: home || "/", shell: shell || "/bin/sh" };
}

async function outputOf(program: string, args: readonly string[]): Promise<string | null> {
  try {
    return (await run(program, [...args], { encoding: "utf8" })).stdout;
  } catch {
    return null;
  }
}

/** Look `name` up: first where networked accounts show too, then in the file. `null`: there is no such account. */
export async function findAccount(name: string): Promise<Account | null> {
  if (!/^[^-:\s\0][^:\s\0]*$/.test(name)) return null;
  const answer = (await outputOf("getent", ["passwd", name])) ?? (await outputOf("id", ["-P", name]));
  const found = answer === null ? null : parseEntry(answer);
  if (found !== null) return found;
  const file = await readFile("/etc/passwd", "utf8").catch(() => "");
  return file.split("\n").reduce<Account | null>((match, line) => match ?? matching(line, name), null);
}

function matching(line: string, name: string): Account | null {
  return line.startsWith(`${name}:`) ? parseEntry(line) : null;
}
