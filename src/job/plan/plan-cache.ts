import { cacheKeys } from "../../transfer/cache-keys.ts";
import type { CacheTransfer } from "../../transfer/transfer.ts";
import type { Cache } from "../job.ts";
import { projectPathOf } from "../sources/project-path.ts";
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
  const caches = job.cache.filter((cache) => isMeant(cache) && cache.policy !== "push");
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
      (cache) => isMeant(cache) && cache.policy !== "pull" && (cache.when === "always" || cache.when === end),
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

function transferOf(
  cache: Cache,
  { job, settings, variables }: Pick<PlanRequest, "job" | "settings" | "variables">,
  withWarnings: boolean,
): CacheTransfer {
  const { expand } = variables;
  const { key, fallbacks, warnings } = cacheKeys({
    key: expand(cache.key),
    written: cache.key,
    jobName: job.name,
    ref: job.git.ref,
    fallbackKeys: cache.fallbackKeys.map(expand),
    commonFallbackKey: settings.cache.fallbackKey,
  });
  return {
    projectPath: projectPathOf(job),
    projectId: /^[\w-]{1,100}$/.test(job.projectId) && job.projectId !== "0" ? job.projectId : "",
    key,
    fallbacks,
    paths: cache.paths.map(expand),
    untracked: cache.untracked,
    // Said once in a job; a cache that is only pushed has just this chance.
    warnings: withWarnings || cache.policy === "push" ? warnings : [],
  };
}
