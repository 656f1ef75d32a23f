import { SystemFailure } from "../../errors.ts";
import { cacheKeys } from "../../transfer/cache/cache-keys.ts";
import type { CacheTransfer } from "../../transfer/transfer.ts";
import type { Cache, Job } from "../job.ts";
import { projectPathOf } from "../sources/project-path.ts";
import { trustOf } from "../sources/trust.ts";
import type { JobVariables } from "../variables/variables.ts";
import type { PlanRequest, Policy, TransferStage } from "./stage.ts";

/** Nothing that becomes of a cache changes a job's result; how often it is tried is the transfer's own business. */
const policy: Policy = {
  when: "on_success",
  afterScriptBegan: false,
  attempts: 1,
  timeoutMs: null,
  decides: false,
  clock: "job",
};

export function planRestore({ job, settings, variables }: PlanRequest): TransferStage[] {
  const caches = job.cache.filter((cache) => isMeant(cache) && directionOf(cache, job, variables).pull);
  if (caches.length === 0) return [];
  const { timeoutMs } = settings.cache;
  return [
    {
      kind: "transfer",
      name: "restore_cache",
      title: "restoring the cache",
      transfer: {
        what: "restore_cache",
        caches: caches.map((cache) => transferOf(cache, { job, settings, variables }, true)),
        attempts: settings.attempts.restoreCache,
        timeoutMs,
      },
      policy,
    },
  ];
}

/** Two stages of which one runs at most: with the job's clock while all is well, with its own after a failure. */
export function planArchive({ job, settings, variables }: PlanRequest): TransferStage[] {
  const { timeoutMs, format, level } = settings.cache;
  return (["on_success", "on_failure"] as const).flatMap((end) => {
    const caches = job.cache.filter(
      (cache) =>
        isMeant(cache) && directionOf(cache, job, variables).push && (cache.when === "always" || cache.when === end),
    );
    if (caches.length === 0) return [];
    return [
      {
        kind: "transfer",
        name: "archive_cache",
        title: "saving the cache",
        transfer: {
          what: "archive_cache",
          caches: caches.map((cache) => transferOf(cache, { job, settings, variables }, false)),
          format,
          level,
          timeoutMs,
        },
        policy:
          end === "on_success"
            ? policy
            : { ...policy, when: end, clock: "own", timeoutMs: timeoutMs * caches.length, afterTimeLimit: false },
      },
    ];
  });
}

function isMeant({ paths, untracked }: Cache): boolean {
  return paths.length > 0 || untracked;
}

interface Direction {
  readonly pull: boolean;
  readonly push: boolean;
  /** What was not understood. */
  readonly warnings: readonly string[];
}

/**
 * A word that nobody knows must not overwrite what another job relies upon. GitLab's runner fails such a job.
 * @throws {SystemFailure} a job of GitLab has one
 */
function directionOf(cache: Cache, { dialect }: Job, { expand }: Pick<JobVariables, "expand">): Direction {
  const wanted = expand(cache.policy).trim();
  switch (wanted) {
    case "":
    case "pull-push":
      return { pull: true, push: true, warnings: [] };
    case "pull":
    case "push":
      return { pull: wanted === "pull", push: wanted === "push", warnings: [] };
    default: {
      const shown = JSON.stringify(wanted.slice(0, 100));
      if (dialect === "gitlab") {
        const message = `cache:policy of the cache ${JSON.stringify(cache.key.slice(0, 100))} is ${shown}, expected is pull-push, pull or push`;
        throw new SystemFailure(message, { reason: "runner_configuration_error" });
      }
      const sentence = `cache.policy is ${shown}, expected is pull-push, pull or push: the cache is restored and not saved.`;
      return { pull: true, push: false, warnings: [sentence] };
    }
  }
}

function transferOf(
  cache: Cache,
  { job, settings, variables }: Pick<PlanRequest, "job" | "settings" | "variables">,
  withWarnings: boolean,
): CacheTransfer {
  const { expand } = variables;
  const direction = directionOf(cache, job, variables);
  const { key, fallbacks, warnings } = cacheKeys({
    key: expand(cache.key),
    written: cache.key,
    jobName: job.name,
    ref: job.git.ref,
    trust: trustOf(job),
    fallbackKeys: cache.fallbackKeys.map(expand),
    commonFallbackKey: settings.cache.fallbackKey,
    hashed: settings.cache.hashed,
  });
  return {
    projectPath: projectPathOf(job),
    projectId: /^[\w-]{1,100}$/.test(job.projectId) && job.projectId !== "0" ? job.projectId : "",
    key,
    fallbacks,
    ...(settings.cache.hashed ? { hashed: true as const } : {}),
    paths: cache.paths.map(expand),
    untracked: cache.untracked,
    // Said once in a job; a cache that is only pushed has just this chance.
    warnings: withWarnings || !direction.pull ? [...direction.warnings, ...warnings] : [],
  };
}
