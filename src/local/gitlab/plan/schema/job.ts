import { z } from "zod";
import { patternOf } from "../../decide/regex.ts";
import { needs } from "./rules.ts";
import { shared } from "./shared.ts";
import { anything, atMost, codes, flag, script, text, textOrTexts, texts, WEEK } from "./words.ts";

/** Keywords of a job. What depends on other jobs is checked later. */

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
