import type { StageName } from "../../../src/job/job.ts";

/** What GitLab Runner calls a stage: drivers compare the names, and some refuse others. */
export function driverStage(name: StageName, failed: boolean): string {
  switch (name) {
    case "archive_cache":
      return failed ? "archive_cache_on_failure" : "archive_cache";
    case "upload_artifacts":
      return failed ? "upload_artifacts_on_failure" : "upload_artifacts_on_success";
    default:
      return name;
  }
}
