import { randomBytes } from "node:crypto";
import type { RunnerConfig } from "../../../config/config.ts";
import type { FinalReport, StoredJob } from "../../../journal/contract.ts";
import type { Job, Outcome } from "../../job.ts";
import { traceWishes } from "../../plan/trace-wishes.ts";

/** `[a-z0-9-]`, ≤ 63 characters: for labels, names and process marks. */
export function jobKeyOf({ id }: Job, runnerId: string): string {
  const readable = id
    .toLowerCase()
    .replace(/[^a-z0-9]/g, "")
    .slice(0, 24);
  return [runnerId, readable, randomBytes(6).toString("hex")].filter((part) => part !== "").join("-");
}

/** What the journal keeps of a job: all that reporting needs, also when its entry is gone from the config by then. */
export function storedJobOf(job: Job, entry: RunnerConfig, key: string, boot: string): StoredJob {
  const url = new URL(entry.url);
  const { stamped, debug } = traceWishes(job, entry);
  return {
    key,
    id: job.id,
    token: job.token,
    dialect: job.dialect,
    ...(job.dialect === "gitlab" ? { stamped, debugTrace: debug } : {}),
    title: `${job.projectName} / ${job.name}`.slice(0, 200),
    runner: {
      id: entry.id,
      name: entry.name,
      token: entry.token,
      url: url.href,
      tlsCaFile: entry.tlsCaFile ?? null,
      tlsCertFile: entry.tlsCertFile ?? null,
      tlsKeyFile: entry.tlsKeyFile ?? null,
      certsDir: entry.certsDir,
    },
    executor: entry.executor,
    knownReasons: job.features.failureReasons,
    acceptedAt: new Date().toISOString(),
    boot,
  };
}

/** Coordinators know two final states; a canceled job is one that failed. */
export function reportOf(outcome: Outcome): FinalReport {
  const at = new Date().toISOString();
  switch (outcome.result) {
    case "success":
      return { state: "success", reason: null, exitCode: null, at };
    case "canceled":
      return { state: "failed", reason: "job_canceled", exitCode: null, at };
    case "failed":
      return { state: "failed", reason: outcome.reason, exitCode: outcome.exitCode ?? null, at };
  }
}
