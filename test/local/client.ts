import { setImmediate } from "node:timers/promises";
import { Agent, type Dispatcher, request } from "undici";
import type { LocalCoordinator } from "../../src/local/coordinator/coordinator.ts";

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
}

export interface ReceivedJob {
  readonly id: number;
  readonly token: string;
  readonly steps: readonly { readonly name: string; readonly script: readonly string[] }[];
}

export interface Client {
  call(method: string, path: string, options?: CallOptions): Promise<Answer>;
  json(method: string, path: string, body: unknown, headers?: Record<string, string>): Promise<Answer>;
  requestJob(token: string, more?: Record<string, unknown>): Promise<Answer>;
  job(token: string): Promise<ReceivedJob & Record<string, unknown>>;
  patch(job: ReceivedJob, text: string | Buffer, headers?: Record<string, string>): Promise<Answer>;
  put(job: ReceivedJob, body: Record<string, unknown>): Promise<Answer>;
  close(): Promise<void>;
}

interface CallOptions {
  readonly headers?: Record<string, string> | string[];
  readonly body?: string | Buffer;
}

/** Sends raw requests to a coordinator; it repeats and checks nothing. */
export function createClient(coordinator: Pick<LocalCoordinator, "url">, options: Agent.Options = {}): Client {
  const dispatcher = new Agent(options);
  const call = async (method: string, path: string, { headers = {}, body }: CallOptions = {}): Promise<Answer> => {
    const answer = await request(`${coordinator.url}/api/v4/${path}`, {
      dispatcher,
      method: method satisfies Dispatcher.HttpMethod | string,
      headers,
      ...(body === undefined ? {} : { body }),
    });
    return { status: answer.statusCode, headers: answer.headers, text: await answer.body.text() };
  };
  const json: Client["json"] = (method, path, body, headers = {}) =>
    call(method, path, { headers: { "content-type": "application/json", ...headers }, body: JSON.stringify(body) });
  const requestJob: Client["requestJob"] = (token, more = {}) =>
    json("POST", "jobs/request", { token, info: { name: "test" }, ...more });
  return {
    call,
    json,
    requestJob,
    async job(token) {
      const answer = await requestJob(token);
      if (answer.status !== 201) throw new Error(`no job: ${answer.status} ${answer.text}`);
      return JSON.parse(answer.text);
    },
    patch: (job, text, headers = {}) =>
      call("PATCH", `jobs/${job.id}/trace`, {
        headers: { "content-type": "text/plain", "job-token": job.token, ...headers },
        body: Buffer.from(text),
      }),
    put: (job, body) => json("PUT", `jobs/${job.id}`, { token: job.token, ...body }),
    close: () => dispatcher.destroy(),
  };
}

export interface FakeRunner {
  stop(): Promise<void>;
}

/** Asks for jobs without a pause and "runs" each as `play` says: its output, and how it ends. */
export function startFakeRunner(
  coordinator: LocalCoordinator,
  token: string,
  play: (
    job: ReceivedJob & Record<string, unknown>,
    client: Client,
  ) => Promise<{ trace: string; state: string; exitCode?: number }>,
): FakeRunner {
  const client = createClient(coordinator);
  let stopped = false;
  const running = new Set<Promise<void>>();
  const run = async (job: ReceivedJob & Record<string, unknown>): Promise<void> => {
    const { trace, state, exitCode } = await play(job, client);
    await client.put(job, { state, trace, ...(exitCode === undefined ? {} : { exit_code: exitCode }) });
  };
  const loop = (async () => {
    while (!stopped) {
      const answer = await client.requestJob(token);
      if (answer.status === 201) {
        const promise = run(JSON.parse(answer.text)).finally(() => running.delete(promise));
        running.add(promise);
      } else await setImmediate();
    }
  })();
  return {
    async stop() {
      stopped = true;
      await loop;
      await Promise.all(running);
      await client.close();
    },
  };
}
