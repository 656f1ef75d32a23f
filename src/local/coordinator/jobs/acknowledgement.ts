import { json } from "../http/parameters.ts";
import type { Reply } from "../http/reply.ts";
import type { JobRecord } from "./job-record.ts";

/**
 * GitLab's two-phase commit. A job that went to a runner with `two_phase_job_commit` stays pending until the runner says
 * `running`. Without a word for the time limit (`pending` counts as one) it is dropped, and made anew as another job.
 */
export interface Acknowledgements {
  /** The job was handed out. */
  expect(job: JobRecord, closing: AbortSignal): void;
  /** What a PUT of `state` is answered while the job waits; `undefined`: as at any other time. */
  answer(job: JobRecord, state: unknown): Reply | undefined;
}

export function createAcknowledgements(
  timeoutMs: () => number,
  retry: (job: JobRecord) => JobRecord,
): Acknowledgements {
  const timers = new Map<JobRecord, { refresh(): void; end(): void }>();
  return {
    expect(job, closing) {
      const expire = (): void => {
        end();
        if (job.status === "pending") job.drop("runner_provisioning_timeout", retry(job));
      };
      let timer = setTimeout(expire, timeoutMs());
      const end = (): void => {
        clearTimeout(timer);
        timers.delete(job);
        closing.removeEventListener("abort", end);
      };
      const refresh = (): void => {
        clearTimeout(timer);
        timer = setTimeout(expire, timeoutMs());
      };
      closing.addEventListener("abort", end, { once: true });
      timers.set(job, { refresh, end });
    },
    answer(job, state) {
      const timer = timers.get(job);
      if (timer === undefined) return undefined;
      if (state === "pending") {
        timer.refresh();
        return json(200, "200", { "job-status": job.status });
      }
      if (state !== "running") return json(400, "400");
      timer.end();
      job.setStatus("running");
      return undefined;
    },
  };
}
