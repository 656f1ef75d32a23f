import { createHash, randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { z } from "zod";
import { SystemFailure } from "../../src/errors.ts";

const keptSchema = z.object({
  name: z.string().min(1),
  id: z.string().nullable(),
  folder: z.string().nullable(),
  base: z.string(),
  /** `Source.identity` of what it was copied from. */
  source: z.string(),
  /** The snapshot that each job begins with; `null`: the machine is not ready, or was never to be kept. */
  snapshot: z.string().nullable(),
  /** The job that has it; `null`: none. */
  jobKey: z.string().nullable(),
  usedAt: z.number(),
});

/** A machine that this runner has made, on disk from before it is there until it is gone. */
export type KeptMachine = z.output<typeof keptSchema>;

export function shortHash(...parts: readonly string[]): string {
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 16);
}

/** All files of a hypervisor's machines begin with this. */
const prefixOf = (hypervisor: string): string => `${hypervisor}-machine-`;

/** The file of the machine that copies of `base` in this slot are. */
export function keptFile(
  keepDir: string,
  { hypervisor, runnerId, slot, base }: { hypervisor: string; runnerId: string; slot: number; base: string },
): string {
  return join(keepDir, `${prefixOf(hypervisor)}${runnerId}-${slot}-${shortHash(base)}.json`);
}

/** Replaces the file in one step, so that a crash leaves either the old or the new content. */
export async function keep(file: string, machine: KeptMachine): Promise<void> {
  const fresh = `${file}.${randomBytes(4).toString("hex")}.new`;
  try {
    await mkdir(dirname(file), { recursive: true, mode: 0o700 });
    await writeFile(fresh, JSON.stringify(machine), { mode: 0o600, flush: true });
    await rename(fresh, file);
  } catch (cause) {
    await rm(fresh, { force: true }).catch(() => {});
    throw new SystemFailure(`Cannot write ${file}, which says which virtual machine is the runner's`, {
      cause,
      retry: true,
    });
  }
}

/** `null`: there is no such file. "unreadable": there is one, and which machine it is about is not known. */
export async function readKept(file: string): Promise<KeptMachine | "unreadable" | null> {
  try {
    return keptSchema.parse(JSON.parse(await readFile(file, "utf8")));
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "ENOENT" ? null : "unreadable";
  }
}

/** Keeps a file that cannot be read for whoever looks for its machine. @returns where it is then */
export async function setAside(file: string): Promise<string> {
  const aside = `${file}.unreadable`;
  await rename(file, aside);
  return aside;
}

export async function forget(file: string): Promise<void> {
  await rm(file, { force: true });
}

/** Files of the machines of all entries of this runner. */
export async function allKept(keepDir: string, hypervisor: string): Promise<string[]> {
  const names = await readdir(keepDir).catch(() => []);
  return names.flatMap((name) =>
    name.startsWith(prefixOf(hypervisor)) && name.endsWith(".json") ? [join(keepDir, name)] : [],
  );
}

/** Whether a runner has made the machine of this name. Such a machine is nobody's base, because it comes and goes. */
export function isMachineName(name: string): boolean {
  return /-runner-[0-9a-f]{8}-concurrent-\d+-[0-9a-f]{8}$/.test(name);
}

/** A name as GitLab Runner gives it, with a random part. */
export function machineName(base: string, runnerId: string, slot: number): string {
  const plain = base.replace(/[^\p{L}\p{N}._ -]+/gu, "-").replace(/^[-. ]+/, "");
  return `${plain.slice(0, 60) || "machine"}${ofSlot(runnerId, slot)}${randomBytes(4).toString("hex")}`;
}

/** What the names of all machines have in common that were ever in a slot. */
export function ofSlot(runnerId: string, slot: number): string {
  return `-runner-${runnerId}-concurrent-${slot}-`;
}
