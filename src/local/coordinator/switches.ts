/** What a local coordinator can be told to do differently, at its start and at any time after. */
export interface Switches {
  /** `count`: of traces of jobs enqueued from now on keep size, CRC-32 and markers only. */
  storeTrace: "memory" | "count";
  /** Text that begins a marker in a trace; each one's arrival is noted in `job.markers`, up to the end of its line. */
  traceMarker: string | undefined;
  /** JSON and multipart bodies beyond it are answered 413. AlloyCI: 100,000,000. */
  bodyLimitBytes: number;
  /** AlloyCI answers 500 to a patch beyond it. */
  patchLimitBytes: number;
  /** A request whose body stands still for so long loses its connection. */
  stallTimeoutMs: number;
  /**
   * Time between choosing a job and handing it over. On AlloyCI two callers within it get the same job, and a caller
   * who hangs up meanwhile takes the job with him.
   */
  jobRequestDelayMs: number;
  /** AlloyCI: so many callers after the first get the same job once more; counts down. */
  duplicateJobs: number;
  /** Somebody has the job's page open: GitLab asks for quick patches, AlloyCI chokes on patches that are no UTF-8. */
  watched: boolean;
  /** AlloyCI, for a job whose dependency declared artifacts and has none. `poison`: 500 to every request, as the real one. */
  missingArtifacts: "skip" | "poison";
  /** GitLab: hold job requests with a current `last_update` for so long; 0 is off. */
  longPollMs: number;
  /** GitLab: `X-GitLab-Trace-Update-Interval`; undefined is 3 while watched, else 60. */
  traceIntervalSeconds: number | undefined;
  /** GitLab: `disabled` answers registrations with 410, `refused` with 400. */
  registration: "open" | "disabled" | "refused";
  /** GitLab: answer verify with the bare text `200`, as old versions do. */
  verifyAsText: boolean;
  /** GitLab: tokens that are given out from now on live for so long; undefined: for ever. */
  tokenLifeSeconds: number | undefined;
  /** GitLab: a personal access token that may exchange the token of any runner. */
  personalToken: string | undefined;
  /** GitLab: so many final updates are answered 202, "not stored yet", before one is taken; counts down. */
  unstoredUpdates: number;
  /** GitLab: jobs for runners with `two_phase_job_commit` wait for their acknowledgement; older versions know no such thing. */
  twoPhaseCommit: boolean;
  /** GitLab: a job that waits and is not heard of for so long is dropped and made anew. */
  acknowledgeTimeoutMs: number;
  /** GitLab: a trace beyond it drops the job. */
  traceLimitBytes: number;
  /** GitLab: job requests beyond it are answered 413. */
  requestLimitBytes: number;
  /** GitLab: `false` answers uploads with 405. */
  artifactsEnabled: boolean;
  /** GitLab: send downloads with `direct_download=true` on to another origin. Needs `objectStorage` at the start. */
  directDownload: boolean;
}

/** `given` over the defaults above; only switches are taken over. */
export function createSwitches({
  storeTrace = "memory",
  traceMarker = undefined,
  bodyLimitBytes = 100_000_000,
  patchLimitBytes = 8_000_000,
  stallTimeoutMs = 60_000,
  jobRequestDelayMs = 0,
  duplicateJobs = 0,
  watched = true,
  missingArtifacts = "skip",
  longPollMs = 0,
  traceIntervalSeconds = undefined,
  registration = "open",
  verifyAsText = false,
  tokenLifeSeconds = undefined,
  personalToken = undefined,
  unstoredUpdates = 0,
  twoPhaseCommit = true,
  acknowledgeTimeoutMs = 120_000,
  traceLimitBytes = Number.POSITIVE_INFINITY,
  requestLimitBytes = 32_768,
  artifactsEnabled = true,
  directDownload = false,
}: Partial<Switches>): Switches {
  return {
    storeTrace,
    traceMarker,
    bodyLimitBytes,
    patchLimitBytes,
    stallTimeoutMs,
    jobRequestDelayMs,
    duplicateJobs,
    watched,
    missingArtifacts,
    longPollMs,
    traceIntervalSeconds,
    registration,
    verifyAsText,
    tokenLifeSeconds,
    personalToken,
    unstoredUpdates,
    twoPhaseCommit,
    acknowledgeTimeoutMs,
    traceLimitBytes,
    requestLimitBytes,
    artifactsEnabled,
    directDownload,
  };
}
