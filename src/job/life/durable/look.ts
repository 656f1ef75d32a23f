import { lstat, rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import type { JobRecord } from "../../../journal/contract.ts";
import { type FoundCheckpoint, readCheckpoint } from "../../../journal/live/checkpoint.ts";
import { type LifeEntry, readLife } from "../../../journal/live/life.ts";
import { foreignSign, readOwnFile } from "../../../journal/live/own-file.ts";
import { createSeal, MOST_PAYLOAD_BYTES, readPayload } from "../../../journal/live/payload.ts";
import type { Log } from "../../../log.ts";
import type { Job, Variable } from "../../job.ts";
import { secretsOf } from "../../variables/secrets.ts";
import { parseJob, parseVariables } from "./stored-job.ts";
import { parsePlan, type StoredPlan } from "./stored-plan.ts";

/** What the files of a job tell that the last process left running. */
export type FoundLife =
  /** It was none that is kept. */
  | { readonly is: "none" }
  | { readonly is: "whole"; readonly kept: WholeLife }
  | { readonly is: "unusable"; readonly problem: string }
  /** Another version of the runner wrote them. */
  | { readonly is: "foreign"; readonly version: string };

export interface WholeLife {
  readonly job: Job;
  /** What stood in the config file for its entry. */
  readonly entry: string;
  readonly plan: StoredPlan | null;
  /** What its trace must not show. */
  readonly secrets: readonly string[];
  readonly prefixes: readonly string[];
  /** What stores of secrets have told, as variables; `null`: they were not asked yet. */
  readonly variables: readonly Variable[] | null;
  /** What git and the like said last, by the number of the script. */
  readonly tails: ReadonlyMap<number, string>;
  readonly entries: readonly LifeEntry[];
  readonly checkpoint: FoundCheckpoint;
  /** How much is sound of the files: whoever goes on writes from there on. */
  readonly lifeBytes: number;
  readonly payload: { readonly lines: number; readonly length: number };
}

const MOST_LIFE_BYTES = 64 * 1024 * 1024;
/** What was received and planned, in base64, and the secrets that were found out. */
const MOST_FILE_BYTES = 6 * MOST_PAYLOAD_BYTES;
const CHECKPOINT_BYTES = 1024;

const tail = z.strictObject({ number: z.number(), text: z.string() });
const received = z.strictObject({ job: z.unknown(), entry: z.string(), prefixes: z.array(z.string()) });

/**
 * Whoever can write to these files could have the runner start things, so that one doubt is enough for none of it to count.
 * @param token the entry's, which traces do not show
 */
export async function lookAtLife(dir: string, jobKey: string, key: Buffer | null, token: string): Promise<FoundLife> {
  const unusable = (problem: string): FoundLife => ({ is: "unusable", problem });
  const info = await lstat(dir);
  const strange = info.isDirectory() ? foreignSign(info) : "is no directory";
  const [lifeFile, payloadFile, atFile] = await Promise.all([
    readOwnFile(join(dir, "life"), MOST_LIFE_BYTES),
    readOwnFile(join(dir, "payload"), MOST_FILE_BYTES),
    readOwnFile(join(dir, "at"), CHECKPOINT_BYTES),
  ]);
  if (lifeFile === null && payloadFile === null) return { is: "none" };
  if (strange !== null) return unusable(`${dir} ${strange}`);
  for (const file of [lifeFile, payloadFile, atFile])
    if (file !== null && "problem" in file) return unusable(file.problem);
  if (lifeFile === null || "problem" in lifeFile) return unusable("there is no life");
  const life = readLife(lifeFile.bytes);
  if ("foreign" in life) return { is: "foreign", version: life.foreign };
  if ("problem" in life) return unusable(`life: ${life.problem}`);
  if (payloadFile === null || "problem" in payloadFile) return unusable("there is no payload");
  if (key === null) return unusable("payload: there is no key");
  const seal = createSeal(key, jobKey);
  const payload = readPayload(payloadFile.bytes, seal);
  if (payload === null) return unusable("payload: it is not this job's, was changed, or the key is another");

  const [first, ...more] = payload.entries;
  const head = first?.kind === "job" ? received.safeParse(first.value).data : undefined;
  const job = parseJob(head?.job);
  if (head === undefined) return unusable("payload: it does not begin with a job");
  const foreign: FoundLife = { is: "foreign", version: life.version };
  if (job === null) return foreign;
  const secrets = new Set(secretsOf(job, [token]).values);
  // The last secret may have been kept without a word of it.
  const digests = new Set([seal.digest(secrets)]);
  let plan: StoredPlan | null = null;
  let variables: readonly Variable[] | null = null;
  const tails = new Map<number, string>();
  for (const { kind, value } of more) {
    if (kind === "plan") {
      plan = parsePlan(value);
      if (plan === null) return foreign;
    } else if (kind === "variables") {
      variables = parseVariables(value);
      if (variables === null) return foreign;
    } else if (kind === "tail") {
      const read = tail.safeParse(value).data;
      if (read === undefined) return foreign;
      tails.set(read.number, read.text);
    } else {
      const texts = z.array(z.string()).safeParse(value);
      if (kind !== "hide" || !texts.success) return foreign;
      for (const text of texts.data) secrets.add(text);
      digests.add(seal.digest(secrets));
    }
  }
  const masks = life.entries.findLast(({ kind }) => kind === "masks");
  if (masks?.kind !== "masks" || !digests.has(masks.digest)) return unusable("payload: secrets are missing");
  const checkpoint = atFile === null || "problem" in atFile ? null : readCheckpoint(atFile.bytes);
  if (checkpoint === null) return unusable("at: it does not say where the trace has come to");
  return {
    is: "whole",
    kept: {
      job,
      entry: head.entry,
      prefixes: head.prefixes,
      plan,
      secrets: [...secrets],
      variables,
      tails,
      entries: life.entries,
      checkpoint,
      lifeBytes: life.length,
      payload: { lines: payload.entries.length, length: payload.length },
    },
  };
}

/**
 * Of a job that nobody goes on with: what its trace is told besides. What was secret in its files is removed.
 * @param by the runner's version
 */
export async function buryLife(
  { dir, stored }: Pick<JobRecord, "dir" | "stored">,
  { key, by, log }: { readonly key: Buffer | null; readonly by: string; readonly log: Log },
): Promise<string | null> {
  const found = await lookAtLife(dir, stored.key, key, stored.runner.token);
  await rm(join(dir, "payload"), { force: true, recursive: true });
  switch (found.is) {
    case "none":
    case "whole":
      return null;
    case "unusable":
      log.warn("what a job was doing cannot be used", { job: stored.id, problem: found.problem });
      return "what it was doing was not kept";
    case "foreign":
      return `the job was begun by alloy-runner ${found.version}, which this one (${by}) cannot follow`;
  }
}
