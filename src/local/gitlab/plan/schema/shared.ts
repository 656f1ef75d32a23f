import { z } from "zod";
import { image, services } from "./containers.ts";
import { artifacts, cache } from "./transfers.ts";
import { atMost, codes, flag, MONTH, script, text, textOrTexts, texts } from "./words.ts";

/** Keywords that stand in `default` and in jobs. */

const RETRY_REASONS: readonly string[] =
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
export const shared = {
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
