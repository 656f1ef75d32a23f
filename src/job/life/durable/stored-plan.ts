import { z } from "zod";
import type { Op, Test } from "../../../shell.ts";
import { cacheFormats } from "../../../transfer/cache/cache-store.ts";
import { compressionLevels } from "../../../transfer/transfer.ts";
import type { Stage } from "../../plan/stage.ts";

/**
 * What of a job was planned, as the runner's next process reads it: all of it is known, or nothing is run of it. What a later
 * version plans otherwise changes no job that has begun.
 */
export interface StoredPlan {
  readonly stages: readonly Stage[];
  /** Show commands as they run. */
  readonly xtrace: boolean;
  /** `CI_CONCURRENT_ID`, and the slot of the project's working copies. */
  readonly concurrentId: number;
  readonly projectSlot: number;
  readonly root: string;
  readonly tmpDir: string;
  readonly buildsDir: string;
}

const text = z.string();
const texts = z.array(text);
const count = z.number().int().nonnegative();
const milliseconds = z.number().nonnegative();

const argv = z.tuple([text], text);

const test: z.ZodType<Test> = z.lazy(() => knownTest);
export const knownTest = z.discriminatedUnion("test", [
  z.strictObject({ test: z.enum(["directory", "file", "exists", "symlink"]), path: text }),
  z.strictObject({ test: z.literal("program"), name: text }),
  z.strictObject({ test: z.literal("succeeds"), argv }),
  z.strictObject({ test: z.literal("nested"), path: text, name: text }),
  z.strictObject({ test: z.literal("not"), of: test }),
]);

const tone = z.enum(["plain", "notice", "warning", "error"]);

const op: z.ZodType<Op> = z.lazy(() => knownOp);
export const knownOp = z.discriminatedUnion("op", [
  z.strictObject({ op: z.literal("export"), name: text, value: text, around: texts.exactOptional() }),
  z.strictObject({ op: z.literal("unset"), name: text }),
  z.strictObject({ op: z.literal("exportFile"), name: text, path: text, content: text }),
  z.strictObject({ op: z.literal("exportLines"), name: text, path: text }),
  z.strictObject({ op: z.literal("write"), path: text, content: text }),
  z.strictObject({ op: z.literal("run"), argv }),
  z.strictObject({ op: z.literal("source"), text }),
  z.strictObject({ op: z.enum(["cd", "mkdir"]), path: text }),
  z.strictObject({ op: z.literal("remove"), path: text }),
  z.strictObject({ op: z.literal("removeNamed"), path: text, names: texts }),
  z.strictObject({ op: z.literal("print"), text, tone }),
  z.strictObject({ op: z.literal("printSection"), section: text, text, line: text, tone }),
  // biome-ignore lint/suspicious/noThenProperty: it is the name in `Op`
  z.strictObject({ op: z.literal("when"), test, then: z.array(op), else: z.array(op).exactOptional() }),
  z.strictObject({ op: z.literal("repeat"), attempts: count, pauseSeconds: z.number(), body: z.array(op) }),
  z.strictObject({ op: z.literal("exit"), status: z.number().int() }),
]);

const cache = z.strictObject({
  projectPath: text,
  projectId: text,
  key: text,
  fallbacks: texts,
  hashed: z.literal(true).exactOptional(),
  paths: texts,
  untracked: z.boolean(),
  warnings: texts,
});

const dependency = z.strictObject({
  id: text,
  name: text,
  token: text,
  file: z.strictObject({ name: text, size: z.number() }).nullable(),
});

const transfer = z.discriminatedUnion("what", [
  z.strictObject({
    what: z.literal("restore_cache"),
    caches: z.array(cache),
    attempts: count,
    timeoutMs: milliseconds,
  }),
  z.strictObject({
    what: z.literal("archive_cache"),
    caches: z.array(cache),
    format: z.enum(cacheFormats).nullable(),
    level: z.enum(compressionLevels),
    timeoutMs: milliseconds,
  }),
  z.strictObject({ what: z.literal("download_artifacts"), dependencies: z.array(dependency), attempts: count }),
  z.strictObject({
    what: z.literal("upload_artifacts"),
    upload: z.strictObject({
      name: text,
      paths: texts,
      exclude: texts,
      untracked: z.boolean(),
      expireIn: text,
      type: text,
      format: z.enum(["zip", "gzip", "raw"]),
      level: z.enum(compressionLevels),
    }),
  }),
]);

const policy = z.strictObject({
  when: z.enum(["on_success", "on_failure", "always"]),
  afterScriptBegan: z.boolean(),
  attempts: count,
  timeoutMs: milliseconds.nullable(),
  decides: z.boolean(),
  clock: z.enum(["job", "own"]),
  afterTimeLimit: z.literal(false).exactOptional(),
});

export const knownStage = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("transfer"), name: text, title: text, transfer, policy }),
  z.strictObject({
    kind: z.literal("script"),
    name: text,
    title: text,
    ops: z.array(op),
    anew: z.array(op).nullable(),
    runIn: z.enum(["helper", "build"]),
    authored: z.boolean(),
    repeatable: z.literal(true).exactOptional(),
    setsAside: z.array(cache).exactOptional(),
    policy,
  }),
]);

const plan: z.ZodType<StoredPlan> = z.strictObject({
  stages: z.array(knownStage),
  xtrace: z.boolean(),
  concurrentId: count,
  projectSlot: count,
  root: text,
  tmpDir: text,
  buildsDir: text,
});

/** `null`: it holds something that this version would not run as it was meant. */
export function parsePlan(value: unknown): StoredPlan | null {
  return plan.safeParse(value).data ?? null;
}
