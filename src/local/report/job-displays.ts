import type { LocalCoordinator } from "../coordinator/coordinator.ts";
import type { LocalJob } from "../coordinator/jobs/job.ts";
import type { JobDisplay, LiveOutput } from "./live-output.ts";

/** The output of a coordinator's jobs, as it comes. */
export interface JobDisplays {
  /** From now on what `job` writes is shown under `name`. */
  open(job: LocalJob, name: string): void;
  /** All that it wrote has been shown. */
  end(job: LocalJob): void;
  /** The coordinator is not listened to any more. */
  close(): void;
}

export function showJobs(coordinator: Pick<LocalCoordinator, "on">, live: LiveOutput): JobDisplays {
  const displays = new Map<LocalJob, JobDisplay>();
  const offTrace = coordinator.on("trace", ({ job, bytes }) => displays.get(job)?.write(bytes));
  const offJob = coordinator.on("job", (job) => {
    if (job.status === "running") displays.get(job)?.started();
  });
  return {
    open: (job, name) => void displays.set(job, live.open(name)),
    end(job) {
      displays.get(job)?.end(job);
      displays.delete(job);
    },
    close() {
      offTrace();
      offJob();
    },
  };
}

/** For whoever wants to see only how it ends. */
export const showNothing: JobDisplays = { open: () => undefined, end: () => undefined, close: () => undefined };
