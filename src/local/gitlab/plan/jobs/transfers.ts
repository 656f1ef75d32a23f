import { isWire, type Wire } from "../../../coordinator/http/wire.ts";
import type { PlannedArtifacts, PlannedCache } from "../plan.ts";
import type { JobData } from "../schema/job.ts";
import { keyOfFiles } from "./cache-key.ts";

/** Caches and artifacts of a job, as GitLab's server hands them to a runner. */

export function cachesOf(
  data: JobData,
  files: readonly string[],
  blobOf: (path: string) => string | undefined,
): PlannedCache[] {
  const list = data.cache === undefined ? [] : Array.isArray(data.cache) ? data.cache : [data.cache];
  return list.flatMap((cache, index): PlannedCache[] => {
    const { key: written, paths = [], untracked = false, policy = "pull-push", when = "on_success" } = cache;
    if (Object.keys(cache).length === 0) return [];
    const key =
      typeof written === "object" && written !== null
        ? keyOfFiles(
            { files: written.files ?? written.files_commits ?? [], prefix: written.prefix, index },
            files,
            blobOf,
          )
        : (written ?? "default");
    const wire = { key, paths, untracked, policy, when, fallback_keys: cache.fallback_keys ?? [] };
    return [{ key, paths, wire }];
  });
}

/** File names of reports that are not called `TYPE.report`. */
const REPORT_NAMES: Readonly<Record<string, string>> = { dotenv: ".env", junit: "junit.xml" };

export function artifactsOf(data: JobData, name: string): PlannedArtifacts | null {
  const { artifacts } = data;
  if (artifacts === undefined) return null;
  const { paths = [], untracked = false, when = "on_success", reports = {} } = artifacts;
  const expiry = artifacts.expire_in === undefined ? {} : { expire_in: artifacts.expire_in };
  const published = publishedBy(data, name);
  const all = [...new Set([...paths, ...published])];
  const wires: Wire[] = [];
  if (all.length > 0 || untracked)
    wires.push({
      ...(artifacts.name === undefined ? {} : { name: artifacts.name }),
      untracked,
      paths: all,
      ...(artifacts.exclude === undefined ? {} : { exclude: artifacts.exclude }),
      when,
      ...expiry,
      artifact_type: "archive",
      artifact_format: "zip",
    });
  for (const [type, value] of Object.entries(reports ?? {})) {
    const listed = pathsOfReport(value);
    if (listed.length === 0) continue;
    wires.push({
      name: REPORT_NAMES[type] ?? `${type}.report`,
      paths: listed,
      when: "always",
      ...expiry,
      artifact_type: type === "coverage_report" ? "cobertura" : type,
      artifact_format: "gzip",
    });
  }
  return { paths: all, dotenv: pathsOfReport(reports?.dotenv), wires };
}

function publishedBy({ pages }: JobData, name: string): string[] {
  if (pages === false || (pages === undefined && name !== "pages")) return [];
  const folder = isWire(pages) && typeof pages.publish === "string" ? pages.publish : "public";
  return [folder];
}

function pathsOfReport(value: unknown): string[] {
  if (typeof value === "string") return [value];
  if (Array.isArray(value)) return value.filter((path) => typeof path === "string");
  return isWire(value) && typeof value.path === "string" ? [value.path] : [];
}
