import { z } from "zod";
import { parseDuration, parseSize } from "../units.ts";

/**
 * Keys, types and ranges of config.toml; outputs are in the units of `config.ts`. Unknown keys are sorted out before
 * (`check.ts`), so the schemas needn't say what to do with them. Executors' own tables are in their folders.
 */

/** Longest duration that means something: a hundred years, well inside what a number can count. */
const LONGEST_MS = 100 * 365 * 86_400_000;

const whole = (least: number, most: number) => z.int().min(least).max(most);
const text = z.string();

/**
 * Text with a unit, or whole seconds; 0 is the default, as in GitLab Runner. Go would read a number as nanoseconds, which
 * nobody writes.
 */
const duration = <T extends number | null>(fallback: T, leastMs = 1000) =>
  z
    .union([z.string(), z.int()])
    .optional()
    .transform((value = 0, context): number | T => {
      const ms = typeof value === "number" ? value * 1000 : parseDuration(value);
      if (ms === 0) return fallback;
      if (ms !== null && ms >= leastMs && ms <= LONGEST_MS) return ms;
      const least = leastMs > 1000 ? ` of at least ${leastMs / 1000} s` : "";
      const message = `expected a duration${least} such as "90s", "15m", "1h30m" or "7d", or whole seconds`;
      context.addIssue({ code: "custom", message });
      return z.NEVER;
    });

const size = z.union([z.string(), z.int()]).transform((value, context) => {
  const bytes = typeof value === "number" ? value : parseSize(value);
  if (bytes !== null && bytes >= 0) return bytes;
  context.addIssue({ code: "custom", message: 'expected a size such as "256MiB" or "2GiB", or a number of bytes' });
  return z.NEVER;
});

/** One of a few words, whatever the case; `as` maps what is written to what it means. Empty is as good as absent. */
function word<T extends string>(as: Readonly<Record<string, T>>) {
  return z.string().transform((value, context): T | undefined => {
    if (value === "") return undefined;
    const meaning = Object.hasOwn(as, value.toLowerCase()) ? as[value.toLowerCase()] : undefined;
    if (meaning !== undefined) return meaning;
    const names = Object.keys(as).map((name) => `"${name}"`);
    context.addIssue({
      code: "custom",
      message: `expected one of ${names.join(", ")}`,
      params: { names: Object.keys(as) },
    });
    return z.NEVER;
  });
}

const concurrent = z.int().transform((value, context) => {
  if (value >= 1 && value <= 100_000) return value;
  const zero = value === 0 ? ". 0 does not mean unlimited" : "";
  context.addIssue({ code: "custom", message: `expected a whole number from 1 to 100000${zero}` });
  return z.NEVER;
});

export const webSchema = z.object({ listen_address: text.optional(), password: text.optional() });

/** Percent; 0 is off. */
const percent = whole(0, 100)
  .transform((value) => (value === 0 ? null : value))
  .default(null);

const admissionSchema = z.object({
  min_free_inodes: whole(0, Number.MAX_SAFE_INTEGER).default(1000),
  max_memory_pressure: percent,
  max_cpu_pressure: percent,
  max_weight: whole(0, 1_000_000)
    .transform((value) => (value === 0 ? Number.POSITIVE_INFINITY : value))
    .default(Number.POSITIVE_INFINITY),
  max_system_failures: whole(0, 1_000_000)
    .transform((value) => (value === 0 ? null : value))
    .default(5),
  failure_pause: duration(60_000),
});

const budget = size.optional().transform((bytes) => bytes ?? null);

/** A size, or a share of the disk. */
const room = z
  .union([z.string(), z.int()])
  .optional()
  .transform((value, context): { readonly bytes: number } | { readonly share: number } | null => {
    if (value === undefined) return null;
    const [, percent] = /^\s*(\d{1,2}(?:\.\d{1,3})?)\s*%\s*$/.exec(String(value)) ?? [];
    if (percent !== undefined) return { share: Number(percent) / 100 };
    const bytes = typeof value === "number" ? value : parseSize(value);
    if (bytes !== null && bytes >= 0) return { bytes };
    context.addIssue({
      code: "custom",
      message: 'expected a share of the disk such as "15%", or a size such as "50GB"',
    });
    return z.NEVER;
  });

const housekeepingSchema = z.object({ images: budget, volumes: budget, builds: budget, free: room });

/** At most 32, and what GitLab takes as their names and values: a request with others would be refused as a whole. */
const labels = z.record(z.string(), text).transform((table, context): Readonly<Record<string, string>> => {
  const names = Object.keys(table);
  const wrong = names.find((name) => !/^\w[\w.-]{2,64}$/.test(name) || !/^[\w.-]{1,256}$/.test(table[name] ?? ""));
  const message =
    names.length > 32
      ? `expected at most 32 labels, found ${names.length}`
      : "expected names of 3 to 65 letters, digits, dots, hyphens and underscores, with values of 1 to 256 of them";
  if (names.length <= 32 && wrong === undefined) return table;
  context.addIssue({ code: "custom", message, ...(wrong === undefined ? {} : { path: [wrong] }) });
  return z.NEVER;
});

export const sessionServerSchema = z.object({
  listen_address: text.optional(),
  advertise_address: text.optional(),
  // Negative numbers have always meant the default.
  session_timeout: z.preprocess((value) => (typeof value === "number" && value < 0 ? 0 : value), duration(1_800_000)),
  tls_cert_file: text.optional(),
  tls_key_file: text.optional(),
});

export const globalSchema = z.object({
  concurrent: concurrent.default(1),
  // 0 and negative have always meant the default; files that say so are in use.
  check_interval: whole(-1_000_000, 1_000_000)
    .transform((value) => (value > 0 ? value * 1000 : 3000))
    .default(3000),
  log_level: word({
    debug: "debug",
    info: "info",
    warn: "warn",
    warning: "warn",
    error: "error",
    fatal: "fatal",
    panic: "fatal",
  }).optional(),
  log_format: word({ text: "text", json: "json", runner: "text" }).optional(),
  listen_address: text.optional(),
  metrics_server: text.optional(),
  debug_endpoints: z.boolean().default(false),
  web: webSchema.default({}),
  session_server: sessionServerSchema.prefault({}),
  user: text.optional(),
  sentry_dsn: text.default(""),
  shutdown_timeout: duration(30_000),
  connection_max_age: duration(900_000),
  state_dir: text.optional(),
  min_free_disk: size.default(256 * 2 ** 20),
  durable: z.boolean().optional(),
  live_key_file: text.optional(),
  outbox_max_age: duration(7 * 86_400_000, 60_000),
  admission: admissionSchema.prefault({}),
  housekeeping: housekeepingSchema.prefault({}),
  labels: labels.default({}),
});

/** Read by others than this program: no type is wrong. */
const tolerated = z.unknown().optional();

/** Stand in `[runners.cache.s3]`, or directly in `[runners.cache]` as the Go runner had them. */
const bucketKeys = {
  ServerAddress: text.optional(),
  AccessKey: text.optional(),
  SecretKey: text.optional(),
  BucketName: text.optional(),
  BucketLocation: text.optional(),
  Insecure: z.boolean().optional(),
};

const cacheSchema = z.object({
  Type: text.optional(),
  Path: text.optional(),
  Shared: z.boolean().optional(),
  MaxUploadedArchiveSize: whole(0, Number.MAX_SAFE_INTEGER).optional(),
  ...bucketKeys,
  s3: z
    .object({
      ...bucketKeys,
      SessionToken: text.optional(),
      AuthenticationType: word({ "access-key": "access-key", iam: "iam" }).optional(),
      ServerSideEncryption: word({ s3: "AES256", kms: "aws:kms", "dsse-kms": "aws:kms:dsse" }).optional(),
      ServerSideEncryptionKeyID: text.optional(),
      PathStyle: z.boolean().optional(),
      RoleARN: text.optional(),
      UploadRoleARN: text.optional(),
      DualStack: z.boolean().optional(),
      Accelerate: z.boolean().optional(),
      DisableAssumeRoleCredentialsCaching: tolerated,
      AssumeRoleMaxConcurrency: tolerated,
    })
    .optional(),
  gcs: z
    .object({
      BucketName: text.optional(),
      CredentialsFile: text.optional(),
      AccessID: text.optional(),
      PrivateKey: text.optional(),
      UniverseDomain: text.optional(),
    })
    .optional(),
  azure: z
    .object({
      AccountName: text.optional(),
      AccountKey: text.optional(),
      ContainerName: text.optional(),
      StorageDomain: text.optional(),
    })
    .optional(),
});

const monitoringSchema = z.object({
  job_queuing_durations: z
    .array(
      z.object({
        periods: z.array(text).default([]),
        timezone: text.default(""),
        threshold: duration(0, 1),
        jobs_running_for_project: text.default(""),
      }),
    )
    .default([]),
});

/** 8 hex digits, or nothing. */
const knownAs = z.string().transform((value, context): string => {
  if (/^(?:[0-9a-f]{8})?$/.test(value)) return value;
  context.addIssue({ code: "custom", message: "expected the 8 hex digits that the runner has written here" });
  return z.NEVER;
});

export const runnerSchema = z.object({
  name: text.default(""),
  url: text,
  token: text,
  rotate_token: z.boolean().default(true),
  known_as: knownAs.default(""),
  executor: text,
  limit: whole(0, 100_000)
    .transform((value) => (value === 0 ? Number.POSITIVE_INFINITY : value))
    .default(Number.POSITIVE_INFINITY),
  weight: whole(1, 1_000_000).default(1),
  output_limit: whole(0, 2 ** 30)
    .transform((kib) => (kib === 0 ? 4096 : kib) * 1024)
    .default(4096 * 1024),
  request_concurrency: whole(-1_000_000, 1000)
    .transform((value) => Math.max(1, value))
    .default(1),
  "tls-ca-file": text.optional(),
  "tls-cert-file": text.optional(),
  "tls-key-file": text.optional(),
  builds_dir: text.optional(),
  cache_dir: text.optional(),
  clone_url: text.default(""),
  environment: z.array(text).default([]),
  pre_clone_script: text.default(""),
  pre_get_sources_script: text.optional(),
  post_get_sources_script: text.default(""),
  pre_build_script: text.default(""),
  post_build_script: text.default(""),
  shell: word({ bash: "bash", sh: "sh", cmd: "cmd", powershell: "powershell", pwsh: "pwsh" }).optional(),
  debug_trace_disabled: z.boolean().default(false),
  strict_check_interval: z.boolean().default(false),
  unhealthy_requests_limit: whole(0, 1_000_000)
    .transform((value) => value || 3)
    .default(3),
  unhealthy_interval: duration(3_600_000),
  prepare_timeout: duration(null),
  get_sources_timeout: duration(null),
  git_ssl_no_verify: z.boolean().default(false),
  plain_http_secret_servers: z.array(text).default([]),
  custom_build_dir: z.object({ enabled: z.boolean().optional() }).optional(),
  job_git_variables: word({ none: "none", safe: "safe", all: "all" }).default("safe"),
  inherit_environment: z.array(text).default([]),
  kill_leftovers: z.boolean().default(true),
  durable: z.boolean().optional(),
  resume_timeout: duration(600_000),
  cache_max_size: size.optional(),
  cache: cacheSchema.optional(),
  artifact: z
    .object({ upload_timeout: duration(null), response_header_timeout: duration(null) })
    .default({ upload_timeout: null, response_header_timeout: null }),
  labels: labels.default({}),
  monitoring: monitoringSchema.optional(),
  feature_flags: tolerated,
  id: tolerated,
  token_obtained_at: tolerated,
  token_expires_at: tolerated,
});

export type GlobalSettings = z.infer<typeof globalSchema>;
export type RunnerSettings = z.infer<typeof runnerSchema>;
export type QueuingTable = z.infer<typeof monitoringSchema>["job_queuing_durations"][number];
export type CacheTable = z.infer<typeof cacheSchema>;

export const globalKeys: readonly string[] = [...Object.keys(globalSchema.shape), "runners"];
export const runnerKeys: readonly string[] = Object.keys(runnerSchema.shape);
