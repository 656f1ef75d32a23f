import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { openCoordinator } from "../../src/coordinator/client.ts";
import {
  type ArtifactFile,
  answerKind,
  type MadeRequest,
  mayPass,
  type StoredTrace,
  TroubleCause,
} from "../../src/coordinator/contract.ts";
import { SystemFailure } from "../../src/errors.ts";
import { never, pause } from "../../src/time.ts";
import { credentials, info, noTls, type Reply, rawSite, site, testDeps } from "./server.ts";

const token = "runner-token-secret==";
const sound = JSON.stringify({ id: 5, token: "jt", steps: [{ name: "script", script: ["true"] }] });

function open(url: URL, more: Parameters<typeof testDeps>[0] = {}) {
  return openCoordinator({ url, token, ...noTls }, testDeps(more));
}

function answers(...replies: Reply[]) {
  return site((_request, index) => replies[Math.min(index, replies.length - 1)] ?? { status: 500 });
}

async function refused(promise: Promise<unknown>): Promise<SystemFailure & { cause: TroubleCause }> {
  const error: unknown = await promise.then(
    () => new Error("it resolved"),
    (reason: unknown) => reason,
  );
  if (error instanceof SystemFailure && error.cause instanceof TroubleCause)
    return Object.assign(error, { cause: error.cause });
  throw error;
}

const piece = (from: number, text: string) => ({ from, bytes: Buffer.from(text) });

describe("a job request", () => {
  test("brings a job with its inputs, unless the entry's environment or feature flags have it otherwise", async () => {
    const line = "${{ job.inputs.a }}";
    const inputs = [{ key: "a", value: { type: "string", content: "fred" } }];
    const body = JSON.stringify({ id: 5, token: "jt", inputs, steps: [{ name: "script", script: [line] }] });
    const { url } = await answers({ status: 201, body });
    const key = "FF_ENABLE_JOB_INPUTS_INTERPOLATION";
    const scriptWith = async (more: object) => {
      const coordinator = openCoordinator({ url, token, ...noTls, ...more }, testDeps());
      const answer = await coordinator.requestJob(info, { hold: false }, never);
      return answer.kind === "job" ? answer.job.steps[0]?.script : answer;
    };
    const environment = [{ key, value: "false" }];
    expect(await scriptWith({})).toEqual(["fred"]);
    expect(await scriptWith({ environment })).toEqual([line]);
    expect(await scriptWith({ environment, featureFlags: { [key]: true } })).toEqual(["fred"]);
  });

  test("tells of a terminal from the first one on, until a job shows that it is AlloyCI's", async () => {
    const job = (variables: object[]) => {
      return { status: 201, body: JSON.stringify({ id: 5, token: "jt", steps: [], variables }) };
    };
    const alloy = job([{ key: "ALLOY_CI", value: "true", public: true }]);
    const gitlab = job([{ key: "GITLAB_CI", value: "true", public: true }]);
    const { url, received } = await answers({ status: 204 }, job([]), gitlab, alloy, { status: 204 });
    const coordinator = openCoordinator({ url, token: "twenty-letters-of-it", ...noTls }, testDeps());
    const session = { url: "https://here/session/1", certificate: "PEM", authorization: "secret" };
    for (let n = 0; n < 5; n++) await coordinator.requestJob(info, { hold: false, session }, never);
    const told = received.map(({ body }) => JSON.parse(String(body)));
    const terminal = told.map(({ info }) => info.features.terminal === true && info.features.session === true);
    expect(terminal).toEqual([true, true, true, true, false]);
    expect(told.map((body) => body.session)).toEqual([session, session, session, session, undefined]);
  });

  test("says under which id the coordinator's log has it", async () => {
    const answer = { status: 201, body: sound };
    const { url, received } = await answers({ ...answer, headers: { "x-request-id": "01JABCDEF-theirs" } }, answer);
    const coordinator = open(url);
    const idOf = async () => {
      const brought = await coordinator.requestJob(info, { hold: false }, never);
      return brought.kind === "job" ? brought.job.correlationId : brought;
    };
    expect(await idOf()).toBe("01JABCDEF-theirs");
    expect(await idOf()).toBe(received[1]?.headers["x-request-id"]);
  });

  test("introduces the runner and its executor", async () => {
    const { url, received } = await answers({ status: 204 });
    const coordinator = open(new URL("prefix/ci/", url), { systemId: "s_0123456789ab" });
    const answer = await coordinator.requestJob(info, { hold: true }, never);
    expect(answer.kind === "none" && answer.heldMs >= 0).toBe(true);
    const [request] = received;
    expect(request).toMatchObject({ method: "POST", path: "/prefix/api/v4/jobs/request" });
    expect(request?.headers).toMatchObject({
      "content-type": "application/json",
      accept: "application/json",
      "user-agent": "alloy-runner 2.0.0 (1a2b3c4d; node24.0.0; linux/amd64)",
      "runner-token": token,
    });
    expect(JSON.parse(String(request?.body))).toMatchObject({
      token,
      system_id: "s_0123456789ab",
      info: {
        name: "alloy-runner",
        version: "2.0.0",
        platform: "linux",
        architecture: "amd64",
        executor: "shell",
        shell: "bash",
        features: {
          variables: true,
          image: false,
          shared: true,
          refspecs: true,
          cancelable: true,
          artifacts: true,
          cache: true,
        },
      },
    });
  });

  test("echoes X-GitLab-Last-Update only when it may be held", async () => {
    const { url, received } = await answers(
      { status: 204, headers: { "x-gitlab-last-update": "v1" } },
      { status: 204 },
    );
    const coordinator = open(url);
    for (const hold of [true, false, true, true]) await coordinator.requestJob(info, { hold }, never);
    expect(received.map(({ body }) => JSON.parse(String(body)).last_update)).toEqual([
      undefined,
      undefined,
      "v1",
      "v1",
    ]);
  });

  test("hears that the work changed from a bare 204 to a question that could be held", async () => {
    const versioned = { status: 204, headers: { "x-gitlab-last-update": "v1" } };
    const { url } = await answers({ status: 204 }, versioned, { status: 204 }, { status: 204 }, versioned);
    const coordinator = open(url);
    const changes: unknown[] = [];
    for (const hold of [true, true, false, true, true]) {
      const answer = await coordinator.requestJob(info, { hold }, never);
      changes.push(answer.kind === "none" && answer.changed);
    }
    expect(changes).toEqual([undefined, undefined, undefined, true, undefined]);
  });

  test("gives the job", async () => {
    const { url } = await answers({
      status: 201,
      headers: { "content-type": "application/json; charset=utf-8" },
      body: `\ufeff${sound}`,
    });
    expect(await open(url).requestJob(info, { hold: false }, never)).toMatchObject({
      kind: "job",
      job: { id: "5", token: "jt", problem: null, serverTls: {} },
    });
  });

  test("gives a job that a proxy compressed unasked", async () => {
    const { url } = await answers({ status: 201, headers: { "content-encoding": "gzip" }, body: gzipSync(sound) });
    expect(await open(url).requestJob(info, { hold: false }, never)).toMatchObject({
      kind: "job",
      job: { id: "5", problem: null },
    });
  });

  test.each([
    [401, { kind: "unauthorized", status: 401 }],
    [403, { kind: "unauthorized", status: 403 }],
    [409, { kind: "conflict" }],
  ])("answered %d is told by its meaning", async (status, answer) => {
    const { url } = await answers({ status });
    expect(await open(url).requestJob(info, { hold: false }, never)).toEqual(answer);
  });

  test("answered 429 says how long to wait, and what the coordinator says, without secrets", async () => {
    const body = JSON.stringify({ message: { token: [`${token} is`, "too fast\u001b[31m\n"] } });
    const { url } = await answers({ status: 429, headers: { "retry-after": "12" }, body });
    expect(await open(url).requestJob(info, { hold: false }, never)).toEqual({
      kind: "trouble",
      message: `Cannot request a job from ${url.origin}: 429 Too Many Requests: token: [MASKED] is, too fast [31m`,
      retryAfterMs: 12_000,
    });
  });

  test.each([
    [
      { status: 500, headers: { "content-type": "text/html" }, body: "<h1>secret page</h1>" },
      "500 Internal Server Error",
    ],
    [{ status: 502, body: '{"broken' }, "502 Bad Gateway"],
    [{ status: 503, body: '{"message":"503 Service Unavailable - migrating"}' }, "503 Service Unavailable - migrating"],
    [{ status: 418, body: "short and stout" }, "status 418: short and stout"],
    [{ status: 200, body: sound }, "status 200"],
    [{ status: 400, body: '{"error":"info is missing"}' }, "400 Bad Request: info is missing"],
  ])("that fails says why in one line: %j", async (reply, reason) => {
    const { url } = await answers(reply);
    const answer = await open(url).requestJob(info, { hold: false }, never);
    expect(answer.kind === "trouble" && answer.message).toMatch(new RegExp(`: ${reason.replaceAll(".", "\\.")}`));
  });

  test("answered with something that is no job says so without showing it", async () => {
    const { url } = await answers({
      status: 201,
      headers: { "content-type": "text/html" },
      body: "<html>top secret</html>",
    });
    expect(await open(url).requestJob(info, { hold: false }, never)).toEqual({
      kind: "trouble",
      message: `${url.origin} handed out a job that cannot be read: the answer is not valid JSON (23 bytes, text/html)`,
      retryAfterMs: undefined,
    });
  });

  test("whose answer is cut still gives a job that can be answered", async () => {
    const url = await rawSite((socket) => {
      socket.on("data", () =>
        socket.end('HTTP/1.1 201 Created\r\ncontent-length: 500\r\n\r\n{"id": 9, "token": "t", "vari'),
      );
    });
    const answer = await open(url).requestJob(info, { hold: false }, never);
    expect(answer).toMatchObject({ kind: "job", job: { id: "9", token: "t" } });
    expect(answer.kind === "job" && answer.job.problem).toMatch(/cannot be read: the answer was cut/);
  });

  test("whose answer stops in the middle ends at its deadline, with what can be told", async () => {
    const url = await rawSite((socket) => {
      socket.on("data", () =>
        socket.write('HTTP/1.1 201 Created\r\ncontent-length: 500\r\n\r\n{"id": 9, "token": "t", '),
      );
    });
    const coordinator = open(url, { bounds: { jobRequestMs: 100 } });
    const answer = await coordinator.requestJob(info, { hold: false }, never);
    expect(answer.kind === "job" && answer.job.problem).toMatch(/not complete within 0.1 s/);
  });

  test("to nobody is trouble, and names host and reason", async () => {
    const url = new URL("http://127.0.0.1:1/");
    expect(await open(url).requestJob(info, { hold: false }, never)).toEqual({
      kind: "trouble",
      message: "Cannot request a job from http://127.0.0.1:1: connect ECONNREFUSED 127.0.0.1:1",
      retryAfterMs: undefined,
    });
  });

  test("that is not answered ends at its deadline", async () => {
    const url = await rawSite(() => {});
    const answer = await open(url, { bounds: { jobRequestMs: 50 } }).requestJob(info, { hold: false }, never);
    expect(answer.kind === "trouble" && answer.message).toMatch(/no answer within 0.05 s/);
  });

  test("ends with its signal's reason, whenever that fires", async () => {
    const controller = new AbortController();
    const reason = new Error("enough");
    const url = await rawSite((socket) => {
      socket.on("data", () => controller.abort(reason));
    });
    const coordinator = open(url);
    await expect(coordinator.requestJob(info, { hold: false }, controller.signal)).rejects.toBe(reason);
    await expect(coordinator.requestJob(info, { hold: false }, controller.signal)).rejects.toBe(reason);
    const early = new AbortController();
    const promise = coordinator.requestJob(info, { hold: false }, early.signal);
    early.abort(reason);
    await expect(promise).rejects.toBe(reason);
  });
});

describe("answers without end are cut", () => {
  const flood = (head: string, more: string) =>
    rawSite((socket) => {
      const pour = (): void => {
        while (!socket.destroyed && socket.write(more));
      };
      socket.on("data", () => socket.write(head, pour)).on("drain", pour);
    });

  test.each([
    [
      "headers",
      "HTTP/1.1 204 No Content\r\n",
      `x: ${"y".repeat(1000)}\r\n`,
      /headers of its answer are larger than 64 KiB/,
    ],
    ["one header", "HTTP/1.1 204 No Content\r\nx: ", "y".repeat(1000), /headers of its answer are larger than 64 KiB/],
    ["an error page", "HTTP/1.1 500 No\r\n\r\n", "y".repeat(1000), /500 Internal Server Error: y{300}…$/],
    ["something that is not HTTP", "hello ", "world ".repeat(100), /Cannot request a job .*HTTP/],
  ])("as %s", async (_, head, more, message) => {
    const answer = await open(await flood(head, more)).requestJob(info, { hold: false }, never);
    expect(answer.kind === "trouble" && answer.message).toMatch(message);
  });

  test("as a job, whose id is still told", async () => {
    const url = await flood('HTTP/1.1 201 Created\r\n\r\n{"id": 1, "token": "t", "x": "', "y".repeat(65_536));
    const answer = await open(url).requestJob(info, { hold: false }, never);
    expect(answer.kind === "job" && answer.job.problem).toMatch(/larger than 67108864 bytes/);
  });

  test("as interim answers", async () => {
    const url = await rawSite((socket) => {
      const timer = setInterval(() => socket.write("HTTP/1.1 102 Processing\r\n\r\n"), 5);
      socket.on("close", () => clearInterval(timer));
    });
    const answer = await open(url, { bounds: { jobRequestMs: 100 } }).requestJob(info, { hold: false }, never);
    expect(answer.kind).toBe("trouble");
  });
});

describe("a piece of trace", () => {
  test("goes out as AlloyCI and GitLab want it", async () => {
    const { url, received } = await answers({
      status: 202,
      headers: { "job-status": "running", range: "0-100", "x-gitlab-trace-update-interval": "30" },
    });
    const answer = await open(url).appendTrace(credentials("alloy"), piece(7, "héllo\n"), never);
    expect(answer).toEqual({ status: "running", next: 14, intervalMs: 30_000 });
    expect(received[0]).toMatchObject({ method: "PATCH", path: "/api/v4/jobs/12/trace", body: Buffer.from("héllo\n") });
    expect(received[0]?.headers).toMatchObject({
      "content-type": "text/plain",
      "content-range": "7-13",
      "content-length": "7",
    });
    expect(received[0]?.raw.filter((name) => name.toLowerCase() === "job-token")).toHaveLength(1);
    expect(received[0]?.headers["job-token"]).toBe("job-token==");
  });

  test("may be empty, to hear of a cancellation", async () => {
    const { url, received } = await answers({ status: 202, headers: { "job-status": "cancelled" } });
    expect(await open(url).appendTrace(credentials("alloy"), piece(9, ""), never)).toMatchObject({
      status: "canceling",
      next: 9,
    });
    expect(received[0]?.headers).toMatchObject({
      "content-length": "0",
      "content-range": "9-9",
      "content-type": "text/plain",
    });
  });

  test("of a mebibyte arrives whole", async () => {
    const { url, received } = await answers({ status: 202 });
    const bytes = Buffer.alloc(1024 * 1024 + 17, "0123456789abcdef\n");
    expect(await open(url).appendTrace(credentials("gitlab"), { from: 0, bytes }, never)).toMatchObject({
      next: bytes.length,
    });
    expect(received[0]?.headers["content-length"]).toBe(String(bytes.length));
    expect(received[0]?.body.equals(bytes)).toBe(true);
  });

  test.each([
    ["0-3", 3],
    ["0-99", 99],
    ["nonsense", 5],
    [undefined, 5],
  ])("refused with 416 and Range %s goes on at %d", async (range, next) => {
    const { url } = await answers({ status: 416, headers: range === undefined ? {} : { range } });
    expect(await open(url).appendTrace(credentials("gitlab"), piece(5, "sixteen"), never)).toMatchObject({ next });
  });

  test.each([403, 404])("refused with %d says that the job is over", async (status) => {
    const { url } = await answers({ status });
    expect(await open(url).appendTrace(credentials("gitlab"), piece(0, "x"), never)).toMatchObject({
      status: "gone",
      next: 0,
    });
  });

  test.each([
    [500, true],
    [503, true],
    [408, true],
    [429, true],
    [302, true],
    [400, false],
    [413, false],
  ])("refused with %d may be repeated: %s", async (status, retry) => {
    const { url } = await answers({
      status,
      headers: { "retry-after": "3" },
      body: `no ${credentials("alloy").token}`,
    });
    const failure = await refused(open(url).appendTrace(credentials("alloy"), piece(0, "x"), never));
    expect(failure).toMatchObject({ retry, cause: { status, retryAfterMs: 3000 } });
    expect(failure.message).toContain(`Cannot append to the trace of job 12 at ${url.origin}: ${status}`);
    expect(failure.message).not.toContain("job-token");
  });

  test("to nobody may be repeated", async () => {
    const failure = await refused(
      open(new URL("http://127.0.0.1:1")).appendTrace(credentials("alloy"), piece(0, "x"), never),
    );
    expect(failure).toMatchObject({ retry: true, cause: { status: 0, retryAfterMs: undefined } });
  });

  test("that nobody takes ends after a silence", async () => {
    const url = await rawSite((socket) => socket.pause());
    const bytes = Buffer.alloc(16 * 1024 * 1024);
    const coordinator = open(url, { bounds: { silenceMs: 100 } });
    expect((await refused(coordinator.appendTrace(credentials("gitlab"), { from: 0, bytes }, never))).message).toMatch(
      /no answer within 0.1 s/,
    );
  });

  test("with an answer that crawls ends after a while", async () => {
    const url = await rawSite((socket) => {
      socket.once("data", () => {
        socket.write("HTTP/1.1 500 No\r\n\r\n");
        const timer = setInterval(() => socket.write("x"), 10);
        socket.on("close", () => clearInterval(timer));
      });
    });
    const coordinator = open(url, { bounds: { silenceMs: 100 } });
    expect(await refused(coordinator.appendTrace(credentials("gitlab"), piece(0, "x"), never))).toMatchObject({
      cause: { status: 500 },
    });
  });
});

describe("a final report", () => {
  const trace = (text: string): StoredTrace => ({
    size: Buffer.byteLength(text),
    open: () => Readable.from([Buffer.from(text)]),
  });

  test("to AlloyCI carries the whole trace and its exact length", async () => {
    const { url, received } = await answers({ status: 200 });
    const text = '\x1b[0;1m"é"\\\r\n'.repeat(1000);
    const update = { state: "failed", reason: "image_pull_failure", exitCode: 3, trace: trace(text) } as const;
    expect(await open(url).updateJob(credentials("alloy"), update, never)).toEqual({ kind: "done", status: "running" });
    const [request] = received;
    expect(request).toMatchObject({ method: "PUT", path: "/api/v4/jobs/12" });
    expect(request?.headers["content-length"]).toBe(String(request?.body.length));
    expect(request?.headers["transfer-encoding"]).toBeUndefined();
    expect(JSON.parse(String(request?.body))).toMatchObject({
      token: "job-token==",
      state: "failed",
      failure_reason: "runner_system_failure",
      exit_code: 3,
      trace: text,
    });
  });

  test("to GitLab carries checksum and size but no trace", async () => {
    const { url, received } = await answers({ status: 200, headers: { "job-status": "success" } });
    const update = { state: "success", checksum: "crc32:00000000", bytes: 3, trace: trace("abc") } as const;
    expect(await open(url).updateJob(credentials("gitlab"), update, never)).toEqual({ kind: "done", status: "gone" });
    const body = JSON.parse(String(received[0]?.body));
    expect(body).toMatchObject({ state: "success", output: { checksum: "crc32:00000000", bytesize: 3 } });
    expect(body).not.toHaveProperty("trace");
  });

  test("that a job runs is never sent to AlloyCI", async () => {
    const { url, received } = await answers({ status: 200, headers: { "job-status": "canceling" } });
    const coordinator = open(url);
    expect(await coordinator.updateJob(credentials("alloy"), { state: "running" }, never)).toEqual({
      kind: "done",
      status: "running",
    });
    expect(received).toEqual([]);
    expect(await coordinator.updateJob(credentials("gitlab"), { state: "running" }, never)).toEqual({
      kind: "done",
      status: "canceling",
    });
  });

  test.each([
    [{ status: 202 }, { kind: "again", afterMs: 1000 }],
    [
      { status: 202, headers: { "x-gitlab-trace-update-interval": "4" } },
      { kind: "again", afterMs: 4000 },
    ],
    [
      { status: 202, headers: { "x-gitlab-trace-update-interval": "99999" } },
      { kind: "again", afterMs: 300_000 },
    ],
    [
      { status: 403, headers: { "job-status": "canceled" } },
      { kind: "done", status: "gone" },
    ],
    [{ status: 404 }, { kind: "done", status: "gone" }],
    [{ status: 409 }, { kind: "done", status: "gone" }],
    [{ status: 412 }, { kind: "resend" }],
    [{ status: 413 }, { kind: "too_large" }],
    [{ status: 400 }, { kind: "too_large" }],
  ])("answered %j is %j", async (reply, answer) => {
    const { url } = await answers(reply);
    expect(await open(url).updateJob(credentials("alloy"), { state: "success", trace: trace("x") }, never)).toEqual(
      answer,
    );
  });

  test.each([
    [400, false],
    [401, false],
    [406, false],
    [408, true],
    [425, true],
    [429, true],
    [500, true],
    [301, true],
  ])("refused with %d may be repeated: %s", async (status, retry) => {
    const { url } = await answers({ status });
    expect(await refused(open(url).updateJob(credentials("gitlab"), { state: "success" }, never))).toMatchObject({
      retry,
      cause: { status },
    });
  });

  test("whose trace cannot be read may be repeated", async () => {
    const { url } = await answers({ status: 200 });
    let opened = 0;
    const broken = (failAt: number): StoredTrace => ({
      size: 3,
      open: () => (++opened === failAt ? Readable.from(failing()) : Readable.from([Buffer.from("abc")])),
    });
    async function* failing(): AsyncGenerator<Buffer> {
      yield Buffer.from("a");
      throw new Error("EIO: disk");
    }
    for (const failAt of [1, 2]) {
      opened = 0;
      const promise = open(url).updateJob(credentials("alloy"), { state: "success", trace: broken(failAt) }, never);
      await expect(promise).rejects.toMatchObject({ retry: true, message: expect.stringMatching(/job 12.*EIO: disk/) });
    }
  });

  test("of 32 MiB arrives whole, from a trace that is never held", async () => {
    const line = Buffer.from(`${'\x1b[32m✓\x1b[0m a line of output, "quoted"'.padEnd(99)}\n`);
    const lines = Math.ceil((32 * 1024 * 1024) / line.length);
    const long: StoredTrace = {
      size: lines * line.length,
      open: () =>
        Readable.from(
          (function* () {
            const chunk = Buffer.alloc(line.length * 1000, line);
            for (let left = lines; left > 0; left -= 1000) yield chunk.subarray(0, Math.min(left, 1000) * line.length);
          })(),
        ),
    };
    const { url, received } = await answers({ status: 200 });
    await open(url).updateJob(credentials("alloy"), { state: "success", trace: long }, never);
    const digest = (bytes: string | Buffer) => createHash("sha256").update(bytes).digest("hex");
    expect(digest(JSON.parse(String(received[0]?.body)).trace)).toBe(digest(Buffer.alloc(long.size, line)));
  });

  test("refused before it was sent is told by its status", async () => {
    const url = await rawSite((socket) => {
      socket.once("data", () => {
        socket.pause();
        socket.write("HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
      });
    });
    const long: StoredTrace = {
      size: 0,
      open: () => Readable.from(Array.from({ length: 400 }, () => Buffer.alloc(65_536, "x"))),
    };
    expect(await open(url).updateJob(credentials("alloy"), { state: "success", trace: long }, never)).toEqual({
      kind: "too_large",
    });
  });

  test("refused while it is sent is told by its status, also by a server that resets the connection", async () => {
    const long: StoredTrace = {
      size: 0,
      open: () => Readable.from(Array.from({ length: 400 }, () => Buffer.alloc(65_536, "x"))),
    };
    for (const end of ["end", "destroy", "resetAndDestroy"] as const) {
      const url = await rawSite((socket) => {
        let bytes = 0;
        socket.on("data", (chunk) => {
          if (bytes > 1024 || (bytes += chunk.length) <= 1024) return;
          socket.write("HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n", () => socket.pause()[end]());
        });
      });
      const coordinator = open(url);
      for (let round = 0; round < 4; round++) {
        const answer = await coordinator.updateJob(credentials("alloy"), { state: "success", trace: long }, never);
        expect(answer).toEqual({ kind: "too_large" });
      }
    }
  });
});

describe("artifacts", () => {
  const SIZE = 200 * 1024 * 1024;
  /** A file of 200 MB that exists nowhere, and a count of the bytes that were read of it. */
  const large = (): { file: ArtifactFile; taken(): number } => {
    const piece = Buffer.alloc(256 * 1024, "x");
    let taken = 0;
    const file = {
      size: SIZE,
      fileName: "large.zip",
      expireIn: "",
      type: "archive",
      format: "zip",
      open: () =>
        Readable.from(
          (function* () {
            for (let sent = 0; sent < SIZE; sent += piece.length) {
              taken += piece.length;
              yield piece;
            }
          })(),
          { objectMode: false },
        ),
    };
    return { file, taken: () => taken };
  };

  test.each([413, 401, 403] as const)(
    "refused with %d after the first kilobyte are told by that, also by a server that resets the connection",
    async (status) => {
      for (const end of ["keep", "end", "destroy", "resetAndDestroy"] as const) {
        const url = await rawSite((socket) => {
          let bytes = 0;
          socket.on("data", (chunk) => {
            if (bytes > 1024 || (bytes += chunk.length) <= 1024) return;
            socket.write(`HTTP/1.1 ${status} No\r\ncontent-length: 0\r\n\r\n`, () => {
              socket.pause();
              if (end !== "keep") socket[end]();
            });
          });
        });
        const { file, taken } = large();
        const failure = await refused(open(url).uploadArtifacts(credentials("gitlab"), file, never));
        expect(failure, end).toMatchObject({ retry: false, cause: { status } });
        expect(taken()).toBeLessThan(SIZE / 4);
      }
    },
  );

  test("wait for a server that thinks after the last byte, longer than other calls", async () => {
    const { url } = await site(async () => {
      await pause(300, never);
      return { status: 201 };
    });
    const small: ArtifactFile = { ...large().file, size: 3, open: () => Readable.from([Buffer.from("abc")]) };
    const bounds = { silenceMs: 50, uploadSilenceMs: 20_000 };
    await open(url, { bounds }).uploadArtifacts(credentials("gitlab"), small, never);
    const impatient = open(url, { bounds: { silenceMs: 50, uploadSilenceMs: 50 } });
    expect(await refused(impatient.uploadArtifacts(credentials("gitlab"), small, never))).toMatchObject({
      retry: true,
      cause: { status: 0 },
    });
  });

  test("end when they take longer as a whole than the operator lets them, though something moves all the time", async () => {
    const { url } = await site(() => ({ status: 201 }));
    const slow = async function* () {
      for (let count = 0; count < 100; count++) {
        await pause(20, never);
        yield Buffer.from("a");
      }
    };
    const file: ArtifactFile = { ...large().file, size: 100, open: () => Readable.from(slow(), { objectMode: false }) };
    const bounded = open(url, { bounds: { uploadSilenceMs: 20_000, uploadMs: 200 } });
    expect(await refused(bounded.uploadArtifacts(credentials("gitlab"), file, never))).toMatchObject({
      retry: true,
      message: expect.stringContaining("within 0.2 s"),
    });
  });
});

describe("connections", () => {
  test("are kept between calls and shared by all entries of one coordinator", async () => {
    const { url, received } = await answers({ status: 204 });
    const deps = testDeps();
    const [one, two] = ["a", "b"].map((name) => openCoordinator({ url, token: name, ...noTls }, deps));
    for (const coordinator of [one, two, one, two]) await coordinator?.requestJob(info, { hold: false }, never);
    expect(new Set(received.map(({ port }) => port)).size).toBe(1);
    expect(received.map(({ body }) => JSON.parse(String(body)).token)).toEqual(["a", "b", "a", "b"]);
  });

  test("carry as many requests at once as there are", async () => {
    let waiting: (() => void)[] = [];
    const { url, received } = await site(async (_request, index) => {
      if (index < 59) await new Promise<void>((resolve) => waiting.push(resolve));
      else for (const go of waiting.splice(0)) go();
      return { status: 204 };
    });
    const coordinator = open(url);
    await Promise.all(Array.from({ length: 60 }, () => coordinator.requestJob(info, { hold: false }, never)));
    expect(received).toHaveLength(60);
    waiting = [];
  });

  /** Answers the first request of a connection, and breaks the connection at the second one. */
  const breaking = async (rude: (socket: import("node:net").Socket) => void) => {
    const requests: string[] = [];
    const url = await rawSite((socket, connection) => {
      let count = 0;
      socket.on("data", (data) => {
        if (!/^[A-Z]+ \//.test(String(data))) return; // this is the body of the request before
        requests.push(`${connection}: ${String(data).split(" ", 1)[0]}`);
        if (connection === 0 && count++ > 0) rude(socket);
        else socket.write("HTTP/1.1 202 Accepted\r\njob-status: running\r\ncontent-length: 0\r\n\r\n");
      });
    });
    return { url, requests };
  };

  test("that ended while idle cost nothing where a call may be repeated", async () => {
    for (const rude of [
      (socket: import("node:net").Socket) => socket.destroy(),
      (socket: import("node:net").Socket) => socket.resetAndDestroy(),
    ]) {
      const { url, requests } = await breaking(rude);
      const coordinator = open(url);
      await coordinator.appendTrace(credentials("gitlab"), piece(0, "a"), never);
      expect(await coordinator.appendTrace(credentials("gitlab"), piece(1, "b"), never)).toMatchObject({ next: 2 });
      expect(requests).toEqual(["0: PATCH", "0: PATCH", "1: PATCH"]);
    }
  });

  test("that break under a call that must not arrive twice are told", async () => {
    const { url, requests } = await breaking((socket) => socket.destroy());
    const coordinator = open(url);
    await coordinator.appendTrace(credentials("alloy"), piece(0, "a"), never);
    expect(await refused(coordinator.appendTrace(credentials("alloy"), piece(1, "b"), never))).toMatchObject({
      retry: true,
    });
    expect(requests).toEqual(["0: PATCH", "0: PATCH"]);
    const again = await breaking((socket) => socket.destroy());
    const other = open(again.url);
    await other.appendTrace(credentials("gitlab"), piece(0, "a"), never);
    expect(await other.requestJob(info, { hold: false }, never)).toMatchObject({ kind: "trouble" });
    expect(again.requests).toEqual(["0: PATCH", "0: POST"]);
  });

  test("that break after the first byte of an answer are not tried again", async () => {
    const { url, requests } = await breaking((socket) => socket.end("HTTP/1."));
    const coordinator = open(url);
    await coordinator.appendTrace(credentials("gitlab"), piece(0, "a"), never);
    await refused(coordinator.appendTrace(credentials("gitlab"), piece(1, "b"), never));
    expect(requests).toHaveLength(2);
  });

  test("that the server closes after each answer are opened anew", async () => {
    const { url, received } = await answers({ status: 204, headers: { connection: "close" } });
    const coordinator = open(url);
    for (let count = 0; count < 5; count++) {
      expect(await coordinator.requestJob(info, { hold: false }, never)).toMatchObject({ kind: "none" });
    }
    expect(new Set(received.map(({ port }) => port)).size).toBe(5);
  });

  test("are told of to the metrics by pattern and status", async () => {
    const { url } = await answers({ status: 204 }, { status: 202 }, { status: 503 }, { status: 200 }, { status: 200 });
    const seen: string[] = [];
    const onRequest = ({ endpoint, method, status, durationMs, again }: MadeRequest): void => {
      seen.push(`${method} ${endpoint} ${status} ${durationMs >= 0}${again ? " again" : ""}`);
    };
    const coordinator = open(url, { onRequest });
    await coordinator.requestJob(info, { hold: false }, never);
    await coordinator.appendTrace(credentials("alloy"), piece(0, "x"), never);
    await refused(coordinator.updateJob(credentials("alloy"), { state: "success" }, never));
    for (const _ of [1, 2]) await coordinator.updateJob(credentials("alloy"), { state: "success" }, never);
    await open(new URL("http://127.0.0.1:1"), { onRequest }).requestJob(info, { hold: false }, never);
    expect(seen).toEqual([
      "POST jobs/request 204 true",
      "PATCH jobs/:id/trace 202 true",
      "PUT jobs/:id 503 true",
      "PUT jobs/:id 200 true again",
      "PUT jobs/:id 200 true",
      "POST jobs/request 0 true",
    ]);
  });
});

describe("redirects", () => {
  test("to another origin are not followed, and nothing is sent there", async () => {
    const elsewhere = await answers({ status: 204 });
    for (const status of [301, 302, 303, 307, 308]) {
      const { url } = await answers({ status, headers: { location: `${elsewhere.url.origin}/login?token=${token}` } });
      const answer = await open(url).requestJob(info, { hold: false }, never);
      expect(answer).toEqual({
        kind: "trouble",
        message: `Cannot request a job from ${url.origin}: ${status}: it redirects to ${elsewhere.url.origin}, which is not followed; the url of this runner must be the coordinator's own`,
        retryAfterMs: undefined,
      });
    }
    expect(elsewhere.received).toEqual([]);
  });

  test("within the coordinator that keep method and body are followed, five times at most", async () => {
    const { url, received } = await site((request, index) =>
      index < 2 ? { status: 307, headers: { location: `/moved${request.path}` } } : { status: 202 },
    );
    await open(url).appendTrace(credentials("gitlab"), piece(0, "text"), never);
    expect(received.map(({ method, path, body }) => `${method} ${path} ${body}`)).toEqual([
      "PATCH /api/v4/jobs/12/trace text",
      "PATCH /moved/api/v4/jobs/12/trace text",
      "PATCH /moved/moved/api/v4/jobs/12/trace text",
    ]);
    const circle = await site((_request, index) => ({ status: 308, headers: { location: `/${index}` } }));
    expect(await refused(open(circle.url).appendTrace(credentials("gitlab"), piece(0, ""), never))).toMatchObject({
      cause: { status: 308 },
    });
    expect(circle.received).toHaveLength(6);
  });

  test.each([undefined, "http://[", "//", "javascript:alert(1)"])(
    "to %s are an error of the call",
    async (location) => {
      const { url } = await answers({ status: 307, headers: location === undefined ? {} : { location } });
      expect(await open(url).requestJob(info, { hold: false }, never)).toMatchObject({ kind: "trouble" });
    },
  );
});

test("absurd headers are survived", async () => {
  const head =
    "HTTP/1.1 416 x\r\nrange: 0-1\r\nrange: zzz\r\njob-status: \r\njob-status: canceled\r\n__proto__: a\r\n__proto__: b\r\nretry-after: -1\r\nconnection: close\r\n\r\n";
  const url = await rawSite((socket) => {
    socket.on("data", () => socket.end(head));
  });
  expect(await open(url).appendTrace(credentials("gitlab"), piece(0, "abc"), never)).toMatchObject({ next: 1 });
});

test.each([
  [0, "silent", true],
  [200, "fine", false],
  [302, "elsewhere", false],
  [401, "unauthorized", false],
  [403, "refused", false],
  [404, "missing", false],
  [409, "conflict", false],
  [410, "gone", false],
  [413, "too_large", false],
  [416, "mismatch", false],
  [418, "other", false],
  [429, "early", true],
  [500, "broken", true],
  [502, "away", true],
  [503, "busy", true],
] as const)("status %i is %s, once for all who decide by it", (status, kind, again) => {
  expect(answerKind(status)).toBe(kind);
  expect(mayPass(kind)).toBe(again);
});
