import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import type { ExecutorWords } from "../../../executor/words.ts";
import { attributeOf, type FlagValues, runnerFlags } from "../../register/runner-flags.ts";

/** What the next `exec` needs of a run that was killed, to reach what its executor has left. */
export interface RunRecord {
  readonly executor: string;
  readonly cwd: string;
  /** Where its working copies are, besides the run's own directory. */
  readonly buildsDir: string | undefined;
  /** The flags that lead to the executor: an engine's address, an account on a host. */
  readonly values: FlagValues;
}

const recordSchema = z.object({
  executor: z.string(),
  cwd: z.string(),
  buildsDir: z.string().optional(),
  values: z.record(z.string(), z.unknown()),
});

const fileIn = (runDir: string): string => join(runDir, "record.json");

/** Kept where only this account reads it, as flags may hold a password; it goes with the run's directory. */
export async function writeRecord(runDir: string, record: RunRecord, words: readonly ExecutorWords[]): Promise<void> {
  const { executor, values } = record;
  const own = ["config", "runner"];
  for (const { flag, executors } of runnerFlags(words))
    if (executors?.includes(executor) === true) own.push(attributeOf(flag));
  const kept = Object.fromEntries(own.flatMap((name) => (values[name] === undefined ? [] : [[name, values[name]]])));
  await writeFile(fileIn(runDir), JSON.stringify({ ...record, values: kept }), { mode: 0o600 });
}

/** `null`: the run has not come so far, or what it left makes no sense. */
export async function readRecord(runDir: string): Promise<RunRecord | null> {
  try {
    const { buildsDir, ...rest } = recordSchema.parse(JSON.parse(await readFile(fileIn(runDir), "utf8")));
    return { ...rest, buildsDir };
  } catch {
    return null;
  }
}
