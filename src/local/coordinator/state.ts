import type { Dialect } from "../../job/job.ts";
import type { Call } from "./http/http.ts";
import type { Reply } from "./http/reply.ts";
import type { Endpoint } from "./http/routes.ts";
import type { ArtifactShelf } from "./jobs/artifacts.ts";
import type { JobSpec } from "./jobs/job.ts";
import { createJob, type JobNews, type JobRecord } from "./jobs/job-record.ts";
import { mayTake } from "./jobs/queue.ts";
import { createToken, type RunnerBook } from "./runners.ts";
import type { Switches } from "./switches.ts";

/** A project whose own registration token makes runners of its own. */
export interface LocalProject {
  readonly id: number;
  readonly registrationToken: string;
}

/** What a coordinator remembers; both dialects work on it. */
export interface State {
  readonly dialect: Dialect;
  readonly switches: Switches;
  readonly registrationToken: string;
  readonly projects: readonly LocalProject[];
  readonly runners: RunnerBook;
  readonly jobs: JobBook;
  readonly shelf: ArtifactShelf;
  /** Base URL, as runners are configured with. */
  url(): string;
  /** Origin of the object storage, where there is one. */
  storageUrl(): string | undefined;
}

export type Handlers = Readonly<Partial<Record<Endpoint, (call: Call) => Promise<Reply>>>>;

/** All jobs, oldest first. */
export interface JobBook {
  readonly all: readonly JobRecord[];
  find(id: string | undefined): JobRecord | undefined;
  enqueue(spec: JobSpec): JobRecord;
}

export function createJobBook(dialect: Dialect, switches: Switches, runners: RunnerBook, news: JobNews): JobBook {
  const all: JobRecord[] = [];
  const byId = new Map<string, JobRecord>();
  let lastId = 1000n;
  return {
    all,
    find: (id) => (id === undefined ? undefined : byId.get(id)),
    enqueue(spec) {
      const id = spec.id ?? String(lastId + 1n);
      if (!/^[1-9]\d*$/.test(id) || byId.has(id)) throw new RangeError(`Job id "${id}" is taken or is not a number`);
      if (BigInt(id) > lastId) lastId = BigInt(id);
      const { storeTrace, traceMarker } = switches;
      const token = spec.token ?? createToken(dialect, "glcbt-");
      const job = createJob(spec, { dialect, id, token, storeTrace, traceMarker, news });
      all.push(job);
      byId.set(id, job);
      runners.bump((runner) => mayTake(job, runner));
      news.status(job);
      return job;
    },
  };
}
