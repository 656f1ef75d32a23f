import { z } from "zod";
import type { Job, Variable } from "../../job.ts";

const text = z.string();
const texts = z.array(text);
const count = z.number().int().nonnegative();
const when = z.enum(["on_success", "on_failure", "always"]);

const variable = z.strictObject({
  key: text,
  value: text,
  public: z.boolean(),
  file: z.boolean(),
  masked: z.boolean(),
  raw: z.boolean(),
});

const image = z.strictObject({
  name: text,
  entrypoint: texts.nullable(),
  pullPolicies: texts,
  user: text.nullable(),
  platform: text.nullable(),
  kubernetesUser: text.exactOptional(),
});

const service = z.strictObject({
  ...image.shape,
  aliases: texts,
  command: texts.nullable(),
  variables: z.array(variable),
});

export const knownJob = z.strictObject({
  id: text,
  token: text,
  dialect: z.enum(["alloy", "gitlab"]),
  name: text,
  projectId: text,
  projectName: text,
  git: z.strictObject({
    repoUrl: text,
    ref: text,
    refType: z.enum(["branch", "tag"]),
    sha: text,
    beforeSha: text,
    refspecs: texts,
    depth: count,
    objectFormat: z.enum(["sha1", "sha256"]),
    protected: z.boolean().nullable(),
  }),
  allowGitFetch: z.boolean(),
  timeoutMs: z.number().nonnegative(),
  variables: z.array(variable),
  steps: z.array(
    z.strictObject({
      name: text,
      script: texts,
      timeoutMs: z.number().nonnegative().nullable(),
      when,
      allowFailure: z.boolean(),
    }),
  ),
  image: image.nullable(),
  services: z.array(service),
  artifacts: z.array(
    z.strictObject({
      name: text,
      untracked: z.boolean(),
      paths: texts,
      exclude: texts,
      when,
      expireIn: text,
      type: text,
      format: z.enum(["zip", "gzip", "raw"]),
    }),
  ),
  cache: z.array(
    z.strictObject({
      key: text,
      untracked: z.boolean(),
      paths: texts,
      policy: text,
      when,
      fallbackKeys: texts,
    }),
  ),
  credentials: z.array(z.strictObject({ url: text, username: text, password: text })),
  dependencies: z.array(
    z.strictObject({
      id: text,
      name: text,
      token: text,
      file: z.strictObject({ name: text, size: z.number() }).nullable(),
    }),
  ),
  hooks: z.array(
    z.strictObject({ name: z.enum(["pre_get_sources_script", "post_get_sources_script"]), script: texts }),
  ),
  features: z.strictObject({ traceSections: z.boolean(), failureReasons: texts, tokenMaskPrefixes: texts }),
  serverTls: z.strictObject({
    ca: text.exactOptional(),
    caConfigured: z.literal(true).exactOptional(),
    cert: text.exactOptional(),
    key: text.exactOptional(),
  }),
  // Absent where the coordinator did not say: JSON has no `undefined`.
  queuedSeconds: z.number().optional(),
  queueSize: z.number().optional(),
  queueDepth: z.number().optional(),
  projectJobsRunning: text.optional(),
  warnings: texts,
  problem: text.nullable(),
  problemReason: z.literal("runner_configuration_error").exactOptional(),
  secrets: z.array(z.strictObject({ name: text, file: z.boolean(), from: text, wanted: z.unknown() })).exactOptional(),
  filledInputs: z
    .strictObject({
      texts: z.number(),
      failure: z.enum(["parse", "evaluation", "sensitive_unsupported"]).exactOptional(),
    })
    .exactOptional(),
  policy: z.strictObject({ name: text, overrideAllowed: z.boolean().nullable(), exceptions: texts }).exactOptional(),
  sensitiveInputs: texts.exactOptional(),
  correlationId: text.exactOptional(),
  payload: text.exactOptional(),
});

/** `null`: they are none. */
export function parseVariables(value: unknown): readonly Variable[] | null {
  return z.array(variable).safeParse(value).data ?? null;
}

/** `null`: it is no job, or one that another version of the runner took. */
export function parseJob(value: unknown): Job | null {
  const { data } = knownJob.safeParse(value);
  return data === undefined ? null : { ...data, queuedSeconds: data.queuedSeconds };
}
