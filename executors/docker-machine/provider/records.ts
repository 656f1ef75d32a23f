import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { keptJson } from "../../common/kept/kept-json.ts";
import type { MakingFiles } from "./making.ts";

/**
 * What is known of one machine. `making`: docker-machine was told to create it, or is about to be; `there`: it was made, or found;
 * `failed`: it could not be made; `removing`: it is to go.
 */
const recordSchema = z.object({
  state: z.enum(["making", "there", "failed", "removing"]),
  /** When it was to be made, milliseconds. */
  since: z.number(),
  /** Of the group that makes it. */
  pid: z.number().optional(),
  driver: z.string().optional(),
  /** `tcp://…`, once asked for: most drivers ask their cloud for it. */
  url: z.string().optional(),
  /** Tries to remove it that failed. */
  attempts: z.number().optional(),
});

export type MachineRecord = z.infer<typeof recordSchema>;

/** Machines of one entry, on disk before they are anywhere else. */
export interface MachineRecords {
  load(): Promise<void>;
  get(name: string): MachineRecord | undefined;
  /** Resolves when it is on disk. `null`: it is gone. */
  set(name: string, record: MachineRecord | null): Promise<void>;
  all(): ReadonlyMap<string, MachineRecord>;
  /** For what is printed while it is made. */
  filesOf(name: string): MakingFiles;
}

const fileSchema = z.record(z.string(), recordSchema);

export function machineRecords(dir: string): MachineRecords {
  const file = keptJson(join(dir, "machines.json"), fileSchema);
  const records = new Map<string, MachineRecord>();
  return {
    async load() {
      await mkdir(dir, { recursive: true, mode: 0o700 });
      for (const [name, record] of Object.entries((await file.load()) ?? {})) records.set(name, record);
    },
    get: (name) => records.get(name),
    async set(name, record) {
      if (record === null) records.delete(name);
      else records.set(name, record);
      await file.save(Object.fromEntries(records));
    },
    all: () => records,
    filesOf: (name) => ({ output: join(dir, `${name}.log`), status: join(dir, `${name}.status`) }),
  };
}
