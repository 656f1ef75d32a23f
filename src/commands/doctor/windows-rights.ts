import { execFile } from "node:child_process";
import { mkdtemp, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { removeTree } from "../../files/remove-tree.ts";

/** Groups that most accounts of a machine are in, as SDDL abbreviates them and as it writes them out. */
const EVERYBODY: Readonly<Record<string, string>> = {
  WD: "Everyone",
  "S-1-1-0": "Everyone",
  AU: "Authenticated Users",
  "S-1-5-11": "Authenticated Users",
  BU: "Users",
  "S-1-5-32-545": "Users",
  IU: "whoever logs in here",
  "S-1-5-4": "whoever logs in here",
  NU: "whoever comes over the network",
  "S-1-5-2": "whoever comes over the network",
  BG: "Guests",
  "S-1-5-32-546": "Guests",
  AN: "anonymous logons",
  "S-1-5-7": "anonymous logons",
};

/** Of a directory: generic read and all, reading a file or listing. */
const READING = ["GA", "GR", "FA", "FR", "CC"];
const READING_BITS = 0x80000000n | 0x10000000n | 0x1n;

/**
 * Groups of strangers that may read a directory or what comes to lie in it. SDDL says it in the same words in each language, unlike
 * what `icacls` prints.
 * @param sddl such as `D:PAI(A;OICI;FA;;;SY)(A;OICI;0x1200a9;;;BU)`
 */
export function strangersThatRead(sddl: string): string[] {
  const list = /D:[A-Z]*((?:\([^()]*\))*)/.exec(sddl)?.[1] ?? "";
  const found = [...list.matchAll(/\(([^()]*)\)/g)].flatMap(([, entry = ""]) => {
    const [kind, , rights = "", , , who = ""] = entry.split(";");
    const group = EVERYBODY[who];
    return kind === "A" && group !== undefined && mayRead(rights) ? [group] : [];
  });
  return [...new Set(found)];
}

function mayRead(rights: string): boolean {
  if (/^0x[0-9a-f]+$/i.test(rights)) return (BigInt(rights) & READING_BITS) !== 0n;
  return (rights.match(/../g) ?? []).some((right) => READING.includes(right));
}

/** Those of a directory of this machine; none where `icacls` does not tell. */
export async function strangersIn(dir: string): Promise<string[]> {
  const scratch = await mkdtemp(join(tmpdir(), "alloy-doctor-"));
  try {
    const saved = join(scratch, "rights");
    const icacls = join(process.env.SystemRoot ?? "C:\\Windows", "System32", "icacls.exe");
    await promisify(execFile)(icacls, [dir, "/save", saved], { timeout: 30_000, windowsHide: true });
    return strangersThatRead(await readFile(saved, "utf16le"));
  } catch {
    return [];
  } finally {
    await removeTree(scratch).catch(() => {});
  }
}
