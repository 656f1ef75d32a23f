import { z } from "zod";

/** Keywords of a CI file; each message says what is expected, as in "must be …". */

const text = z.string("text");
const texts = z.array(text, "a list of texts");
const scalar = z.union([z.string(), z.number(), z.boolean(), z.null()], "text, a number, true or false");
const named = z.looseObject({ name: text }, "text, or a table with a name");
const flag = z.union([z.boolean(), z.enum(["true", "false"])], "true or false");
const when = z.enum(["on_success", "on_failure", "always"], "on_success, on_failure or always");

const image = z.union([z.string(), named], "text, or a table with a name").nullish();
const services = z.array(z.union([z.string(), named], "text, or a table with a name"), "a list of services").nullish();
// An empty list is how AlloyCI's documentation switches variables off.
const variables = z.preprocess(
  (value) => (Array.isArray(value) && value.length === 0 ? {} : value),
  z.record(z.string(), scalar, "a table of names and values").nullish(),
);
const script = texts.nullish();
const afterScript = z.union([texts, text], "a list of texts").nullish();
const cache = z
  .looseObject(
    {
      paths: z.union([texts, text], "a list of texts").nullish(),
      untracked: flag.nullish(),
      key: z.union([text, z.number()], "text").nullish(),
      policy: text.regex(/^(?:pull-push|pull|push)$|\$/, "pull-push, pull or push, or a variable").nullish(),
      when: when.nullish(),
    },
    "a table",
  )
  .nullish();
const artifacts = z
  .looseObject(
    {
      paths: z.union([texts, text], "a list of texts").nullish(),
      untracked: flag.nullish(),
      name: text.nullish(),
      when: when.nullish(),
      expire_in: z.union([text, z.number()], "a duration such as 3 days").nullish(),
    },
    "a table",
  )
  .nullish();

/** What may stand both at the top of the file and in a job. */
const shared = { image, services, before_script: script, after_script: afterScript, variables, cache };

export const topSchema = z.looseObject(
  { ...shared, stages: texts.min(1, "a list of texts").nullish() },
  "a table of jobs",
);

export const jobSchema = z.looseObject({
  ...shared,
  script: texts,
  stage: text.nullish(),
  only: texts.nullish(),
  except: texts.nullish(),
  tags: texts.nullish(),
  allow_failure: z.boolean("true or false").nullish(),
  when: z.enum(["on_success", "on_failure", "always", "manual"], "on_success, on_failure, always or manual").nullish(),
  dependencies: texts.nullish(),
  artifacts,
});

export const RESERVED_KEYS: readonly string[] = Object.keys(topSchema.shape);
export const JOB_KEYS: readonly string[] = Object.keys(jobSchema.shape);

/** Keys inside of tables that travel as they are, as far as a runner knows them. */
export const SUB_KEYS: Readonly<Record<string, readonly string[]>> = {
  image: ["name", "entrypoint", "pull_policy", "docker", "kubernetes"],
  cache: ["paths", "untracked", "key", "policy", "when", "fallback_keys"],
  artifacts: ["paths", "untracked", "name", "when", "expire_in", "exclude"],
};
