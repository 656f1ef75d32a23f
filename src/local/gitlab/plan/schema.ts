import { z } from "zod";
import { patternOf } from "../decide/regex.ts";
import { durationSeconds } from "../read/duration.ts";

/** Keywords of GitLab's file; each message says what is expected, as in "must be …". What depends on other jobs is checked later. */

const text = z.string("a text");
const texts = z.array(text, "a list of texts");
const flag = z.boolean("true or false");
const textOrTexts = z.union([text, texts], "a text, or a list of texts");
/** Texts in it are looked at where it is made flat. */
const script = z.union([text, z.array(z.unknown())], "a text, or a list of texts");
const scalar = z.union([z.string(), z.number(), z.boolean(), z.null()], "a text, a number, true or false");
const codes = z.union([z.int(), z.array(z.int("a whole number"), "a list")], "a whole number, or a list of them");
/** A table whose keys are checked by the runner, or by nobody. */
const anything = z.record(z.string(), z.unknown(), "a table");

/** @param least days that it may be at most */
const duration = z
  .string("a duration such as 1h 30m")
  .refine((value) => durationSeconds(value) !== undefined, "a duration such as 1h 30m");
const expiry = z
  .string("a duration such as 3 days, or never")
  .refine((value) => value === "never" || durationSeconds(value) !== undefined, "a duration such as 3 days, or never");
const WEEK = 7 * 24 * 3600;
const MONTH = 30 * 24 * 3600;
const atMost = (seconds: number, what: string) =>
  duration.refine((value) => (durationSeconds(value) ?? 0) <= seconds, `at most ${what}`);

const pullPolicy = z.enum(["always", "if-not-present", "never"], "always, if-not-present or never");
const dockerOptions = z.strictObject(
  { platform: text.max(64, "at most 64 characters").optional(), user: z.union([text, z.number()]).optional() },
  "a table",
);
const container = {
  name: text.min(1, "the name of an image, not blank"),
  entrypoint: z.array(text, "a list of texts").optional(),
  docker: dockerOptions.optional(),
  kubernetes: anything.optional(),
  pull_policy: z
    .union([pullPolicy, z.array(pullPolicy)], "always, if-not-present or never, or a list of them")
    .optional(),
};
const image = z.union(
  [text.min(1, "not blank"), z.strictObject({ ...container, ports: z.unknown().optional() })],
  "a text, or a table with a name",
);
const service = z.union(
  [
    text.min(1, "not blank"),
    z.strictObject({
      ...container,
      alias: text.optional(),
      command: script.optional(),
      variables: z.record(z.string(), scalar, "a table of names and values").optional(),
      ports: z.unknown().optional(),
    }),
  ],
  "a text, or a table with a name",
);
const services = z.array(service, "a list of services");

const transferWhen = z.enum(["on_success", "on_failure", "always"], "on_success, on_failure or always");
const cacheKey = z.union(
  [
    text
      .refine((key) => !/\/|%2F/i.test(key), "a key without /")
      .refine((key) => !/^\.{1,2}$/.test(key), "a key that is not only dots"),
    z
      .strictObject({
        files: z
          .array(text, "a list of texts")
          .min(1, "a list with 1 or 2 names")
          .max(2, "a list with at most 2 names")
          .optional(),
        files_commits: z
          .array(text, "a list of texts")
          .min(1, "a list with 1 or 2 names")
          .max(2, "a list with at most 2 names")
          .optional(),
        prefix: text.optional(),
      })
      .refine(
        ({ files, files_commits: commits }) => (files === undefined) !== (commits === undefined),
        "a table with only one of files and files_commits",
      ),
  ],
  "a text, or a table with files",
);
const oneCache = z.strictObject(
  {
    key: cacheKey.nullable().optional(),
    paths: texts.optional(),
    untracked: flag.optional(),
    unprotect: flag.optional(),
    policy: text.regex(/^(?:pull-push|pull|push)$|\$/, "pull-push, pull or push, or a variable").optional(),
    when: transferWhen.optional(),
    fallback_keys: texts.max(5, "a list of at most 5 keys").optional(),
  },
  "a table",
);
const cache = z.union(
  [oneCache, z.array(oneCache).max(4, "a list of at most 4 caches")],
  "a table, or a list of tables",
);

const REPORTS =
  "junit codequality sast secret_detection dependency_scanning container_scanning dast performance browser_performance load_performance license_scanning metrics lsif dotenv terraform accessibility coverage_fuzzing api_fuzzing cluster_image_scanning requirements requirements_v2 cyclonedx annotations repository_xray sarif";
const reports = z.strictObject(
  {
    ...Object.fromEntries(REPORTS.split(" ").map((name) => [name, textOrTexts.optional()])),
    dotenv: textOrTexts.optional(),
    coverage_report: z
      .strictObject({ coverage_format: z.enum(["cobertura", "jacoco"], "cobertura or jacoco"), path: text }, "a table")
      .optional(),
  },
  "a table of reports",
);
const artifacts = z
  .strictObject(
    {
      name: text.optional(),
      untracked: flag.optional(),
      paths: texts.optional(),
      exclude: texts.optional(),
      reports: reports.nullable().optional(),
      expose_as: text
        .max(100, "at most 100 characters")
        .regex(/^[A-Za-z0-9_][A-Za-z0-9_ -]*$/, "letters, digits, _, - and spaces")
        .optional(),
      when: transferWhen.optional(),
      expire_in: expiry.optional(),
      public: flag.optional(),
      access: z.enum(["all", "developer", "maintainer", "none"], "all, developer, maintainer or none").optional(),
    },
    "a table",
  )
  .refine(
    (value) => value.public === undefined || value.access === undefined,
    "a table with only one of public and access",
  )
  .refine(
    (value) => value.expose_as === undefined || (value.paths?.every((path) => !path.includes("*")) ?? false),
    "a table with paths, and no * in them, where it has expose_as",
  );

export const RETRY_REASONS: readonly string[] =
  "always unknown_failure script_failure api_failure stuck_or_timeout_failure runner_system_failure missing_dependency_failure runner_unsupported stale_schedule job_execution_timeout archived_failure unmet_prerequisites scheduler_failure data_integrity_failure forward_deployment_failure image_pull_failure runner_interrupted runner_configuration_error runner_external_dependency_failure runner_provisioning_timeout".split(
    " ",
  );
const retryWhen = z.string().refine((word) => RETRY_REASONS.includes(word), `one of ${RETRY_REASONS.join(", ")}`);
const retryCount = z.int("0, 1 or 2").min(0, "0, 1 or 2").max(2, "0, 1 or 2");
const retry = z.union(
  [
    retryCount,
    z.strictObject({
      max: retryCount.optional(),
      when: z
        .union([retryWhen, z.array(retryWhen)], `one of ${RETRY_REASONS.join(", ")}, or a list of them`)
        .optional(),
      exit_codes: codes.optional(),
    }),
  ],
  "0, 1 or 2, or a table with max",
);
const hooks = z.strictObject({ pre_get_sources_script: script.optional() }, "a table");
const idTokens = z.record(z.string(), z.strictObject({ aud: textOrTexts }, "a table with aud"), "a table");
const tags = texts.max(49, "a list of at most 49 tags");

/** What may stand in `default` and in a job; some of it also at the top of the file. */
const shared = {
  after_script: script.optional(),
  artifacts: artifacts.optional(),
  before_script: script.optional(),
  cache: cache.optional(),
  hooks: hooks.optional(),
  id_tokens: idTokens.optional(),
  image: image.optional(),
  interruptible: flag.optional(),
  retry: retry.optional(),
  services: services.optional(),
  tags: tags.optional(),
  timeout: atMost(MONTH, "a month").optional(),
};

export const defaultSchema = z.strictObject({ ...shared, identity: text.optional() }, "a table");
export const DEFAULT_KEYS: readonly string[] = Object.keys(defaultSchema.shape);
/** Old way to write them: at the top of the file. */
export const GLOBAL_KEYS: readonly string[] = ["image", "services", "cache", "before_script", "after_script"];

const jobWhen = z.enum(
  ["on_success", "on_failure", "always", "manual", "delayed"],
  "one of on_success, on_failure, always, manual, delayed",
);
const refs = z.union([text, texts], "a text, or a list of texts");
const changes = z.union([texts, z.strictObject({ paths: texts, compare_to: text.optional() })], "a list of texts");
const only = z.union(
  [
    refs,
    z.strictObject({
      refs: refs.optional(),
      variables: texts.optional(),
      changes: changes.optional(),
      kubernetes: z.literal("active", "active").optional(),
    }),
  ],
  "a text, a list of texts, or a table with refs, variables, changes",
);
const environment = z.union(
  [
    text,
    z.strictObject({
      name: text,
      url: text.max(255, "at most 255 characters").optional(),
      action: z
        .enum(["start", "stop", "prepare", "verify", "access"], "start, stop, prepare, verify or access")
        .optional(),
      on_stop: text.optional(),
      auto_stop_in: text.optional(),
      deployment_tier: z.enum(["production", "staging", "testing", "development", "other"]).optional(),
      kubernetes: anything.optional(),
    }),
  ],
  "a text, or a table with a name",
);
const need = z.union(
  [
    text,
    z.strictObject({
      job: text.optional(),
      artifacts: flag.optional(),
      optional: flag.optional(),
      parallel: z.strictObject({ matrix: z.array(anything) }).optional(),
      pipeline: text.optional(),
      project: text.optional(),
      ref: text.optional(),
    }),
  ],
  "the name of a job, or a table with job",
);
const needs = z.union(
  [z.array(need), z.strictObject({ pipeline: text, job: text.optional(), artifacts: flag.optional() })],
  "a list of jobs",
);
const allowFailure = z.union([flag, z.strictObject({ exit_codes: codes })], "true, false, or a table with exit_codes");
const matrixOrNumber = z.union(
  [
    z.int("a number between 1 and 200").min(1, "between 1 and 200").max(200, "between 1 and 200"),
    z.strictObject({ matrix: z.array(anything, "a list of tables") }),
  ],
  "a number between 1 and 200, or a table with matrix",
);
const inherit = z.strictObject(
  {
    default: z.union([flag, z.array(z.enum(Object.keys(shared)))], "true, false, or a list of keywords").optional(),
    variables: z.union([flag, texts], "true, false, or a list of names").optional(),
  },
  "a table",
);
const trigger = z.union(
  [
    text,
    z
      .strictObject({
        project: text.optional(),
        branch: text.optional(),
        include: z
          .union([text, z.array(z.union([text, anything])).max(3, "a list of at most 3 files"), anything])
          .optional(),
        strategy: z.enum(["depend", "mirror"], "depend or mirror").optional(),
        forward: z.strictObject({ yaml_variables: flag.optional(), pipeline_variables: flag.optional() }).optional(),
        inputs: anything.optional(),
      })
      .refine(
        (value) => (value.project === undefined) !== (value.include === undefined),
        "a table with only one of project and include",
      ),
  ],
  "a text, or a table with project or include",
);

export const jobSchema = z.strictObject(
  {
    ...shared,
    script: script.optional(),
    run: z.array(anything, "a list of steps").optional(),
    trigger: trigger.optional(),
    stage: text.optional(),
    extends: textOrTexts.optional(),
    rules: z.array(z.unknown(), "a list of rules").optional(),
    only: only.optional(),
    except: only.optional(),
    when: jobWhen.optional(),
    start_in: atMost(WEEK, "one week").optional(),
    allow_failure: allowFailure.optional(),
    needs: needs.optional(),
    dependencies: texts.optional(),
    coverage: z
      .string("a regular expression between slashes")
      .refine((value) => patternOf(value) !== null, "a regular expression between slashes")
      .optional(),
    parallel: matrixOrNumber.optional(),
    variables: z.record(z.string(), z.unknown(), "a table of names and values").optional(),
    inherit: inherit.optional(),
    environment: environment.optional(),
    resource_group: text.optional(),
    release: anything.optional(),
    inputs: anything.optional(),
    publish: text.optional(),
    pages: z.union([flag, anything]).optional(),
    manual_confirmation: text.optional(),
    secrets: anything.optional(),
    identity: text.optional(),
    dast_configuration: anything.optional(),
  },
  "a table",
);
export const JOB_KEYS: readonly string[] = Object.keys(jobSchema.shape);
export type JobData = z.infer<typeof jobSchema>;

/** A job that starts another pipeline takes no more than these. */
export const TRIGGER_KEYS: readonly string[] =
  "trigger extends stage rules only except when needs parallel variables inherit allow_failure resource_group environment interruptible".split(
    " ",
  );

const ruleBase = {
  if: text.optional(),
  changes: z.unknown().optional(),
  exists: z.unknown().optional(),
  variables: z
    .record(
      z.string(),
      z.union([z.string(), z.number(), z.boolean()], "a text, a number, true or false"),
      "a table of names and values",
    )
    .optional(),
  needs: needs.optional(),
  start_in: atMost(WEEK, "one week").optional(),
  allow_failure: flag.optional(),
};
const ruleWhen = z.enum(
  ["on_success", "on_failure", "always", "never", "manual", "delayed"],
  "one of on_success, on_failure, always, never, manual, delayed",
);
export const ruleSchema = z.strictObject(
  { ...ruleBase, when: ruleWhen.optional(), interruptible: flag.optional() },
  "a table",
);
export type RuleData = z.infer<typeof ruleSchema>;

const autoCancel = z.strictObject(
  {
    on_new_commit: z.enum(["conservative", "interruptible", "none"], "conservative, interruptible or none").optional(),
    on_job_failure: z.enum(["none", "all"], "none or all").optional(),
  },
  "a table",
);
export const workflowSchema = z.strictObject(
  {
    name: text.max(255, "at most 255 characters").optional(),
    rules: z.array(z.unknown(), "a list of rules").optional(),
    auto_cancel: autoCancel.optional(),
  },
  "a table",
);
export const workflowRuleSchema = z.strictObject(
  { ...ruleBase, when: z.enum(["always", "never"], "always or never").optional(), auto_cancel: autoCancel.optional() },
  "a table",
);

/** Of root variables; jobs have the first and the last of it. */
export const variableSchema = z.strictObject({
  value: scalar.optional(),
  description: text.optional(),
  options: texts.optional(),
  expand: flag.optional(),
});
