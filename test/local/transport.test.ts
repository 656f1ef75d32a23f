import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type LocalCoordinator, startCoordinator } from "../../src/local/coordinator/coordinator.ts";
import { type Client, createClient } from "./client.ts";

let coordinator: LocalCoordinator;
let client: Client;

async function open(options: Partial<Parameters<typeof startCoordinator>[0]> = {}): Promise<void> {
  coordinator = await startCoordinator({ dialect: "alloy", ...options });
  client = createClient(coordinator);
}

beforeEach(() => open());

afterEach(async () => {
  await client.close();
  await coordinator.close();
});

async function reopen(options: Parameters<typeof open>[0]): Promise<void> {
  await client.close();
  await coordinator.close();
  await open(options);
}

/** Sends HTTP as a text and returns everything that arrives until the connection ends. */
async function rawExchange(text: string): Promise<string> {
  const { port } = new URL(coordinator.url);
  const socket = connect(Number(port), "127.0.0.1");
  let received = "";
  socket.setEncoding("latin1").on("data", (piece: string) => {
    received += piece;
  });
  socket.write(text);
  await once(socket, "close");
  return received;
}

const verify = (token: string, more = "") => {
  const body = JSON.stringify({ token });
  return `POST /api/v4/runners/verify HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n${more}\r\n${body}`;
};

test("an idle connection is closed after its time, and nothing announces that", async () => {
  await reopen({ idleTimeoutMs: 50 });
  const { token } = coordinator.addRunner();
  const received = await rawExchange(verify(token));
  expect(received).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
  expect(received.toLowerCase()).not.toContain("keep-alive: timeout");
});

test("a connection serves so many requests and no more", async () => {
  await reopen({ requestsPerConnection: 2 });
  const { token } = coordinator.addRunner();
  const received = await rawExchange(verify(token) + verify(token));
  expect(received.match(/^HTTP\/1\.1 200/gm)).toHaveLength(2);
  expect(received.match(/^connection: (.*)$/gim)).toEqual(["connection: keep-alive", "connection: close"]);
});

test("a request with connection: close is the last one", async () => {
  const { token } = coordinator.addRunner();
  expect(await rawExchange(verify(token, "connection: close\r\n"))).toContain("connection: close");
});

test("a body that stands still loses its connection", async () => {
  coordinator.switches.stallTimeoutMs = 50;
  expect(
    await rawExchange(
      "POST /api/v4/runners HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{",
    ),
  ).toBe("");
});

test("every request is recorded: head, body up to a cap, answer, times and connection", async () => {
  await reopen({ recordBodyBytes: 10 });
  const { token } = coordinator.addRunner();
  const arrived = coordinator.waitForRequest(() => true, { future: true });
  await client.json("POST", "runners/verify?x=1", { token }, { "x-request-id": "0123456789abcdef0123" });
  const request = await coordinator.waitForRequest(({ endedAt }) => endedAt !== undefined);
  expect(request).toBe(await arrived);
  expect(request).toMatchObject({
    method: "POST",
    path: "/api/v4/runners/verify?x=1",
    endpoint: "verify",
    status: 200,
    answer: { "x-request-id": "0123456789abcdef0123" },
    bodyBytes: JSON.stringify({ token }).length,
  });
  expect(request.body.toString()).toBe('{"token":"');
  expect(request.headers["content-type"]).toBe("application/json");
  expect(request.endedAt).toBeGreaterThanOrEqual(request.arrivedAt);
  await expect(coordinator.waitForRequest(({ endpoint }) => endpoint === "trace", { timeoutMs: 5 })).rejects.toThrow(
    /After 5 ms still waiting for a request.*\nPOST \/api\/v4\/runners\/verify\?x=1 → 200/,
  );
});

test("nothing is kept without recording, and waiting still works", async () => {
  await reopen({ record: false });
  const waiting = coordinator.waitForRequest(({ status }) => status === 403);
  await client.json("POST", "runners/verify", { token: "no" });
  expect((await waiting).endpoint).toBe("verify");
  expect(coordinator.requests).toEqual([]);
});

test("a fault can answer instead of the coordinator, or after it has done its work", async () => {
  const { token } = coordinator.addRunner();
  const local = coordinator.enqueue();
  const job = await client.job(token);
  coordinator.intercept = ({ endpoint, count, jobId }) => {
    if (endpoint !== "trace" || jobId !== local.id) return undefined;
    if (count === 1) return { kind: "status", status: 503, headers: { "retry-after": "7" }, body: "later" };
    return count === 2 ? { kind: "status", status: 500, handled: true } : undefined;
  };
  const refused = await client.patch(job, "one\n");
  expect([refused.status, refused.headers["retry-after"], refused.text]).toEqual([503, "7", "later"]);
  expect(local.liveText).toBe("");
  expect((await client.patch(job, "one\n")).status).toBe(500);
  expect(local.liveText).toBe("one\n");
  expect((await client.patch(job, "one\n")).status).toBe(202);
  expect(local.liveText).toBe("one\none\n");
  expect(coordinator.requests.map(({ fault }) => fault)).toEqual([undefined, "status", "status", undefined]);
});

test("a job can be assigned and its answer lost", async () => {
  const { token } = coordinator.addRunner();
  const local = coordinator.enqueue();
  coordinator.intercept = () => ({ kind: "drop", handled: true });
  await expect(client.requestJob(token)).rejects.toThrow();
  expect(local.status).toBe("running");
  coordinator.intercept = () => ({ kind: "drop" });
  const other = coordinator.enqueue();
  await expect(client.requestJob(token)).rejects.toThrow();
  expect(other.status).toBe("pending");
});

test("silence lasts until the coordinator is closed", async () => {
  coordinator.intercept = () => ({ kind: "silence" });
  const asked = client.requestJob("x");
  asked.catch(() => undefined);
  await coordinator.waitForRequest(({ fault }) => fault === undefined);
  await coordinator.close();
  await expect(asked).rejects.toThrow();
});

test("answers can be slow, cut short, delayed, or no HTTP at all", async () => {
  const { token } = coordinator.addRunner();
  coordinator.enqueue();
  coordinator.enqueue();
  coordinator.intercept = () => ({ kind: "slow", chunkBytes: 300, intervalMs: 1 });
  const slow = await client.requestJob(token);
  expect(JSON.parse(slow.text)).toHaveProperty("token");
  coordinator.intercept = () => ({ kind: "truncate", bytes: 10 });
  await expect(client.requestJob(token)).rejects.toThrow();
  coordinator.intercept = () => ({ kind: "delay", delayMs: 20 });
  expect((await client.requestJob(token)).status).toBe(204);
  const [request] = coordinator.requests.slice(-1);
  expect((request?.endedAt ?? 0) - (request?.arrivedAt ?? 0)).toBeGreaterThanOrEqual(19);
  coordinator.intercept = () => ({ kind: "raw", bytes: "HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n" });
  await expect(client.requestJob(token)).rejects.toThrow();
  coordinator.intercept = () => ({ kind: "raw", bytes: "HTTP/1.1 204 No Content\r\nx-strange: 1\r\n\r\n" });
  expect((await client.requestJob(token)).headers["x-strange"]).toBe("1");
});

test("a server below a path, and unknown paths", async () => {
  await reopen({ pathPrefix: "/ci-server" });
  expect(coordinator.url).toMatch(/\/ci-server$/);
  expect((await client.requestJob(coordinator.addRunner().token)).status).toBe(204);
  expect((await client.call("GET", "nowhere")).status).toBe(404);
  expect((await fetch(new URL("/api/v4/jobs/request", coordinator.url), { method: "POST" })).status).toBe(404);
});

test("an occupied port is an error at the start", async () => {
  const { port } = new URL(coordinator.url);
  await expect(startCoordinator({ dialect: "alloy", port: Number(port) })).rejects.toThrow(/EADDRINUSE/);
});

test("closing twice is fine, and removes what was uploaded", async () => {
  const { token } = coordinator.addRunner();
  const local = coordinator.enqueue({ artifacts: { paths: ["x"] } });
  const job = await client.job(token);
  await client.call("POST", `jobs/${job.id}/artifacts`, {
    headers: { "content-type": "multipart/form-data; boundary=b", "job-token": job.token },
    body: '--b\r\nContent-Disposition: form-data; name="file"; filename="a.zip"\r\n\r\nx\r\n--b--\r\n',
  });
  const path = local.artifacts[0]?.path ?? "";
  expect(await readFile(path, "utf8")).toBe("x");
  await coordinator.close();
  await coordinator.close();
  await expect(readFile(path)).rejects.toThrow(/ENOENT/);
});

test("listeners hear of jobs, patches and requests until they stop", async () => {
  const heard: string[] = [];
  const off = coordinator.on("job", ({ status }) => heard.push(status));
  coordinator.on("trace", ({ bytes }) => heard.push(bytes.toString()));
  coordinator.on("finished", ({ name }) => heard.push(`end of ${name}`));
  const { token } = coordinator.addRunner();
  coordinator.enqueue({ name: "x" });
  const job = await client.job(token);
  await client.patch(job, "text");
  await client.put(job, { state: "success" });
  off();
  coordinator.enqueue();
  expect(heard).toEqual(["pending", "running", "text", "success", "end of x"]);
});

test("TLS, with client certificates where they are wanted", async () => {
  const dir = await mkdtemp(join(tmpdir(), "local-tls-"));
  try {
    const file = (name: string) => join(dir, name);
    execFileSync(
      "openssl",
      [
        ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"],
        ...["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
        ...["-keyout", file("key.pem"), "-out", file("cert.pem")],
      ],
      { stdio: "ignore" },
    );
    const [key, cert] = await Promise.all([readFile(file("key.pem"), "utf8"), readFile(file("cert.pem"), "utf8")]);
    await reopen({ tls: { key, cert, ca: cert, requestCert: true } });
    expect(coordinator.url).toMatch(/^https:/);
    await client.close();
    client = createClient(coordinator, { connect: { ca: cert } });
    await expect(client.requestJob("x")).rejects.toThrow();
    await client.close();
    client = createClient(coordinator, { connect: { ca: cert, key, cert } });
    expect((await client.requestJob("x")).status).toBe(401);
  } finally {
    await rm(dir, { recursive: true });
  }
});
