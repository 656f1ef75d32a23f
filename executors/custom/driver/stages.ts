import { peerStage, type StageName } from "../../../src/job/job.ts";

/** What GitLab Runner calls a stage towards drivers, some of which refuse others: of the script by its older name. */
export function driverStage(name: StageName, failed: boolean): string {
  return name === "build_script" ? name : peerStage(name, failed);
}
