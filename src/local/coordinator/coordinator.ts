import { randomBytes } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { Dialect } from "../../job/job.ts";
import { alloyHandlers } from "./alloy.ts";
import { type Channel, createChannel } from "./channel.ts";
import type { Intercept } from "./faults/faults.ts";
import { gitlabHandlers } from "./gitlab.ts";
import { type DirectRequest, openDirectDoor } from "./http/direct.ts";
import { type Call, type LocalServer, type ServerOptions, startServer } from "./http/http.ts";
import { createRecorder, type RecordedRequest, type RequestWait } from "./http/recorder.ts";
import type { Reply } from "./http/reply.ts";
import { createArtifactShelf } from "./jobs/artifacts.ts";
import type { JobSpec, LocalJob } from "./jobs/job.ts";
import { createRunnerBook, type LocalRunner, type RunnerSpec } from "./runners.ts";
import { createJobBook, type LocalProject, type State } from "./state.ts";
import { createSwitches, type Switches } from "./switches.ts";

export type { Fault, Intercept } from "./faults/faults.ts";
export type { RecordedRequest } from "./http/recorder.ts";
export type { JobSpec, LocalJob } from "./jobs/job.ts";

export interface CoordinatorOptions extends Partial<Switches> {
  readonly dialect: Dialect;
  /** `false`: no port is opened, and only this process can ask, with `answer`. Default: true. */
  readonly listens?: boolean;
  /** Default: `127.0.0.1`. */
  readonly host?: string;
  /** Default: 0, any free one. */
  readonly port?: number;
  /** What makes runners of the whole coordinator. Default: made up. */
  readonly registrationToken?: string;
  readonly projects?: readonly LocalProject[];
  /** PEM texts. `requestCert`: callers must show a certificate that `ca` signed. */
  readonly tls?: ServerOptions["tls"];
  /** Other accounts of this machine can connect, too: hear only whoever comes with the password in `runnerUrl`. Default: false. */
  readonly secret?: boolean;
  /** Live below a path, such as `/gitlab`. Default: none. */
  readonly pathPrefix?: string;
  /** Idle connections are closed after so long. Default: 5000, as AlloyCI's server does. */
  readonly idleTimeoutMs?: number;
  /** Default: 1000, as AlloyCI's server does. */
  readonly requestsPerConnection?: number;
  /** Keep all requests in `requests`. Default: true; long runs switch it off. */
  readonly record?: boolean;
  /** Of each body so much is kept. Default: 65,536. */
  readonly recordBodyBytes?: number;
  /** GitLab: listen on a second port, for downloads that are sent on. Default: false. */
  readonly objectStorage?: boolean;
  readonly intercept?: Intercept;
  /** Where uploaded files are kept until it is closed. Default: the system's directory for temporary files. */
  readonly artifactsDir?: string;
}

/** What `on` tells of. */
interface CoordinatorEvents {
  /** A job was enqueued or has another status. */
  readonly job: LocalJob;
  /** A patch was stored. */
  readonly trace: { readonly job: LocalJob; readonly bytes: Buffer };
  /** The runner's last word on a job has been dealt with. */
  readonly reported: LocalJob;
  /** The coordinator counts a job as over. */
  readonly finished: LocalJob;
  /** A request arrived, or something happened to it. */
  readonly request: RecordedRequest;
}

/** A coordinator in this process that answers like AlloyCI or GitLab, over HTTP with faults included. */
export interface LocalCoordinator {
  readonly dialect: Dialect;
  /** A name only, where it does not listen. */
  readonly url: string;
  /** What runners are configured with: `url`, with the password of a coordinator that has one. */
  readonly runnerUrl: string;
  readonly registrationToken: string;
  readonly runners: readonly LocalRunner[];
  /** A runner that did not have to register. */
  addRunner(spec?: RunnerSpec): LocalRunner;
  /** All jobs, oldest first. */
  readonly jobs: readonly LocalJob[];
  enqueue(spec?: JobSpec): LocalJob;
  readonly requests: readonly RecordedRequest[];
  /** The first request that `predicate` accepts, past or to come; asked at its arrival and at each thing that happens to it. */
  waitForRequest(predicate: (request: RecordedRequest) => boolean, wait?: RequestWait): Promise<RecordedRequest>;
  /** Asked before each request; may be replaced at any time. */
  intercept: Intercept | undefined;
  /** May be assigned to at any time. */
  readonly switches: Switches;
  /** @returns how to stop listening */
  on<E extends keyof CoordinatorEvents>(event: E, listener: (value: CoordinatorEvents[E]) => void): () => void;
  /**
   * Answers a request of this process, as one over HTTP would be. Its body is whole in `Reply.body`.
   * Rejects with what a body's stream threw; held requests end when `signal` fires.
   */
  answer(request: DirectRequest, signal: AbortSignal): Promise<Reply>;
  /** GitLab: answer requests for jobs that are held, and hold no more. */
  release(): void;
  /** End everything at once, held requests too, and remove uploaded files. Safe more than once. */
  close(): Promise<void>;
}

/** Where one is that does not listen: no name that a server could have (RFC 6761). */
const NOWHERE = "http://coordinator.invalid";

/** Start a coordinator; it listens when this resolves, if it is to. Rejects with what the system said about the address. */
export async function startCoordinator(options: CoordinatorOptions): Promise<LocalCoordinator> {
  const { dialect, host = "127.0.0.1", port = 0, pathPrefix = "" } = options;
  const switches = createSwitches(options);
  const channels: { readonly [E in keyof CoordinatorEvents]: Channel<CoordinatorEvents[E]> } = {
    job: createChannel(),
    trace: createChannel(),
    reported: createChannel(),
    finished: createChannel(),
    request: createChannel(),
  };
  const recorder = createRecorder(options.record ?? true, options.recordBodyBytes ?? 65_536);
  recorder.changed.on((request) => channels.request.emit(request));
  const runners = createRunnerBook(dialect);
  const shelf = createArtifactShelf(options.artifactsDir);
  const jobs = createJobBook(dialect, switches, runners, {
    status(job) {
      channels.job.emit(job);
      if (job.finishedAt !== undefined) channels.finished.emit(job);
    },
    trace: (job, bytes) => channels.trace.emit({ job, bytes }),
    reported: (job) => channels.reported.emit(job),
  });
  const registrationToken = options.registrationToken ?? randomBytes(15).toString("base64url");
  let main: LocalServer | undefined;
  let storage: LocalServer | undefined;
  const state: State = {
    dialect,
    switches,
    registrationToken,
    projects: options.projects ?? [],
    runners,
    jobs,
    shelf,
    url: () => `${main?.origin ?? NOWHERE}${pathPrefix}`,
    storageUrl: () => storage?.origin,
  };
  const handlers = dialect === "alloy" ? alloyHandlers(state) : gitlabHandlers(state);
  const password = options.secret === true ? randomBytes(18).toString("base64url") : undefined;
  let { intercept } = options;
  const server: Omit<ServerOptions, "port" | "handle"> = {
    host,
    pathPrefix,
    authorization: password === undefined ? undefined : `Basic ${Buffer.from(`runner:${password}`).toString("base64")}`,
    idleTimeoutMs: options.idleTimeoutMs ?? 5000,
    requestsPerConnection: options.requestsPerConnection ?? 1000,
    recorder,
    commonHeaders: (request) => commonHeaders(dialect, request),
    intercept: () => intercept,
    ...(options.tls === undefined ? {} : { tls: options.tls }),
  };
  const handle = async (call: Call): Promise<Reply> => (await handlers[call.endpoint]?.(call)) ?? { status: 404 };
  const door = openDirectDoor(handle, { recorder, pathPrefix });
  if (options.listens !== false) main = await startServer({ ...server, port, handle });
  if (options.objectStorage === true)
    storage = await startServer({
      ...server,
      // As with the real one, the address is the key.
      authorization: undefined,
      port: 0,
      handle: async (call) => (await handlers.storage?.({ ...call, endpoint: "storage" })) ?? { status: 404 },
    });

  return {
    dialect,
    url: state.url(),
    runnerUrl: password === undefined ? state.url() : state.url().replace("://", `://runner:${password}@`),
    registrationToken,
    runners: runners.all,
    addRunner: (spec) => runners.add(spec),
    jobs: jobs.all,
    enqueue: (spec = {}) => jobs.enqueue(spec),
    requests: recorder.requests,
    waitForRequest: (predicate, wait) => recorder.waitFor(predicate, wait),
    get intercept() {
      return intercept;
    },
    set intercept(next) {
      intercept = next;
    },
    switches,
    on: (event, listener) => channels[event].on(listener),
    answer: door.answer,
    release() {
      switches.longPollMs = 0;
      runners.bump(() => true);
    },
    async close() {
      door.close();
      await Promise.all([main?.close(), storage?.close()]);
      await shelf.close();
    },
  };
}

function commonHeaders(dialect: Dialect, request: IncomingMessage): Readonly<Record<string, string>> {
  const given = request.headers["x-request-id"];
  const kept = typeof given === "string" && given.length >= 20 && given.length <= 200 ? given : undefined;
  const requestId = kept ?? randomBytes(16).toString("hex");
  if (dialect === "gitlab") return { server: "nginx", "x-request-id": requestId };
  return { server: "Cowboy", "cache-control": "max-age=0, private, must-revalidate", "x-request-id": requestId };
}
