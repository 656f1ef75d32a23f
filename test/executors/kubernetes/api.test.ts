import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type RequestListener } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, onTestFinished, test } from "vitest";
import { openAccess } from "../../../executors/kubernetes/access/access.ts";
import { createApi } from "../../../executors/kubernetes/api/client.ts";
import { getPod, listLabelled } from "../../../executors/kubernetes/api/pods.ts";
import { ApiFailure } from "../../../executors/kubernetes/api/status.ts";
import { createPodWatch } from "../../../executors/kubernetes/api/watch.ts";
import { kubernetesTable } from "../../../executors/kubernetes/settings/settings.ts";
import { never } from "../../../src/time.ts";
import { executorDeps } from "../../support/executor-deps.ts";

/** A server of the test's answers as real API servers do at bad moments. */

const dir = mkdtempSync(join(tmpdir(), "alloy-api-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return `http://127.0.0.1:${address.port}`;
}

const none = { host: undefined, context: undefined, certFile: undefined, keyFile: undefined, caFile: undefined };

async function apiAt(host: string, token = "t", table: Readonly<Record<string, unknown>> = {}) {
  const { retry } = kubernetesTable.parse(table);
  const access = await openAccess({ connection: { ...none, host, bearerToken: token }, env: {}, working: dir });
  const api = createApi(access, retry);
  onTestFinished(() => api.close());
  return api;
}

const failure = (code: number, message: string): string =>
  JSON.stringify({ kind: "Status", code, message, reason: "Some" });
const call = { what: "ask", method: "GET", path: "/x" } as const;

test("429 with Retry-After, 503 and broken connections are asked again; a refusal is not", async () => {
  let asked = 0;
  const host = await serve((request, answer) => {
    asked++;
    if (asked === 1) answer.writeHead(429, { "retry-after": "0" }).end(failure(429, "slowly"));
    else if (asked === 2) request.socket.destroy();
    else if (asked === 3) answer.writeHead(503).end(failure(503, "etcd"));
    else answer.end('{"fine": true}');
  });
  const api = await apiAt(host);
  expect(await api.call(call, never)).toEqual({ fine: true });
  expect(asked).toBe(4);

  let refusals = 0;
  const refusing = await serve((_, answer) => {
    refusals++;
    answer.writeHead(403).end(failure(403, 'pods is forbidden: User "x" cannot create resource'));
  });
  await expect((await apiAt(refusing)).call(call, never)).rejects.toThrow(/Cannot ask: pods is forbidden/);
  expect(refusals).toBe(1);
});

test("retry_limit says how often a call is tried, and retry_limits how often where a refusal has these words", async () => {
  let asked = 0;
  const answering = async (code: number, message: string) =>
    await serve((_, answer) => {
      asked++;
      answer.writeHead(code).end(failure(code, message));
    });
  const table = { retry_limit: 2, retry_backoff_max: 500, retry_limits: { "exceeded quota": 3 } };
  for (const [code, message, tries] of [
    [503, "etcd", 2],
    [403, 'pods "x" is forbidden: exceeded quota: q', 3],
    [403, "another refusal", 1],
  ] as const) {
    asked = 0;
    const api = await apiAt(await answering(code, message), "t", table);
    await expect(api.call(call, never)).rejects.toThrow(message);
    expect([message, asked]).toEqual([message, tries]);
  }
});

test("what a proxy says is not taken for the API server's word, and a token shows in no message", async () => {
  const host = await serve((_, answer) => answer.writeHead(404).end("<html>not here</html>"));
  const error = await (await apiAt(host, "very-secret")).call(call, never).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(ApiFailure);
  expect(String(error)).toMatch(/something in between answered \(HTTP 404/);
  expect(String(error)).not.toContain("very-secret");
});

test("an answer that is no API server's names the call and what came, and quotes no secret", async () => {
  const table = { retry_limit: 2, retry_backoff_max: 500 };
  for (const [body, came] of [
    ["", "nothing"],
    ["<html>\n log in </html>", "<html> log in </html>"],
    ['{"kind": "Secret", "data": {"a": "aGlkZGVu"', "other JSON, or half of it"],
    ['{"kind": "Status"}', "other JSON, or half of it"],
  ] as const) {
    let asked = 0;
    const host = await serve((_, answer) => {
      asked++;
      answer.end(body);
    });
    const error = await getPod(await apiAt(host, "t", table), "n", "a", never).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(ApiFailure);
    expect(error).toMatchObject({
      message: `Cannot look at the pod a: ${host} answered, and not as the Kubernetes API does: ${came}`,
    });
    expect(asked).toBe(2);
  }
});

test("a list whose continuation has expired begins anew", async () => {
  let expired = false;
  const host = await serve((request, answer) => {
    const from = new URL(request.url ?? "", "http://x").searchParams.get("continue");
    const pod = (name: string) => ({ metadata: { name } });
    if (from === null) {
      const more = { metadata: { continue: expired ? "second" : "first", resourceVersion: "5" }, items: [pod("a")] };
      answer.end(JSON.stringify(more));
    } else if (from === "first") {
      expired = true;
      answer.writeHead(410).end(failure(410, "too old"));
    } else answer.end(JSON.stringify({ metadata: { resourceVersion: "6" }, items: [pod("b")] }));
  });
  const { items } = await listLabelled(await apiAt(host), "list", "/pods", { a: "b" }, never);
  expect(items.map(({ metadata }) => metadata.name)).toEqual(["a", "b"]);
});

test("a watch that was dropped goes on, one that has expired lists anew, and a pod that went meanwhile is gone", async () => {
  const pod = (version: string) => ({ metadata: { name: "a", resourceVersion: version } });
  const asked: string[] = [];
  const host = await serve((request, answer) => {
    const query = new URL(request.url ?? "", "http://x").searchParams;
    const from = query.get("resourceVersion");
    asked.push(from ?? "list");
    if (from === null) {
      const lists = asked.filter((one) => one === "list").length;
      answer.end(JSON.stringify({ metadata: { resourceVersion: `${lists}0` }, items: lists === 1 ? [pod("10")] : [] }));
    } else if (from === "10") {
      answer.write(`${JSON.stringify({ type: "MODIFIED", object: pod("11") })}\n`, () => request.socket.destroy());
    } else if (from === "11") {
      answer.end(`${JSON.stringify({ type: "ERROR", object: { kind: "Status", code: 410 } })}\n`);
    }
  });
  const { log } = executorDeps(dir);
  const watch = createPodWatch({ api: await apiAt(host), namespace: "n", labels: {}, pollMs: 1000, log });
  onTestFinished(() => watch.close());
  const view = watch.view("a");
  while (view.pod !== null) await view.changed(30_000, never);
  expect(asked.slice(0, 4)).toEqual(["list", "10", "11", "list"]);
});

function kubeconfig(name: string, content: object): string {
  const path = join(dir, name);
  writeFileSync(path, JSON.stringify({ apiVersion: "v1", kind: "Config", ...content }));
  return path;
}

test("of two kubeconfigs the first counts for what both name, and files are found beside the one that names them", async () => {
  writeFileSync(join(dir, "token-file"), "from-file\n");
  const first = kubeconfig("one", {
    "current-context": "here",
    clusters: [{ name: "k", cluster: { server: "https://first:6443/" } }],
    contexts: [{ name: "here", context: { cluster: "k", user: "u", namespace: "own" } }],
  });
  const second = kubeconfig("two", {
    "current-context": "there",
    clusters: [{ name: "k", cluster: { server: "https://second:6443" } }],
    users: [{ name: "u", user: { tokenFile: "token-file", as: "boss", "as-groups": ["a", "b"] } }],
    contexts: [{ name: "there", context: { cluster: "k", user: "u" } }],
  });
  const env = { KUBECONFIG: `${join(dir, "missing")}:${first}:${second}` };
  const access = await openAccess({ connection: { ...none, bearerToken: undefined }, env, working: dir });
  expect(access).toMatchObject({ server: "https://first:6443", namespace: "own" });
  expect((await access.logins.get(null, never)).headers).toEqual({
    authorization: "Bearer from-file",
    "impersonate-user": "boss",
    "impersonate-group": ["a", "b"],
  });
  const nowhere = openAccess({
    connection: { ...none, context: "nowhere", bearerToken: undefined },
    env,
    working: dir,
  });
  await expect(nowhere).rejects.toThrow(/no context "nowhere"/);
});

test("an exec plugin is run once for all who ask, and again for a login that was refused", async () => {
  const runs = join(dir, "runs");
  const program = join(dir, "plugin");
  writeFileSync(
    program,
    `#!/bin/sh\necho "$KUBERNETES_EXEC_INFO" >>${runs}\nprintf '{"status": {"token": "t%s"}}' "$(wc -l <${runs})"\n`,
  );
  chmodSync(program, 0o755);
  const plugin = { command: "./plugin", apiVersion: "client.authentication.k8s.io/v1", args: null, env: null };
  const path = kubeconfig("exec", {
    "current-context": "c",
    clusters: [{ name: "k", cluster: { server: "https://k" } }],
    users: [{ name: "u", user: { exec: plugin } }],
    contexts: [{ name: "c", context: { cluster: "k", user: "u" } }],
  });
  const env = { KUBECONFIG: path, PATH: process.env.PATH };
  const { logins } = await openAccess({ connection: { ...none, bearerToken: undefined }, env, working: dir });
  const [one, two] = await Promise.all([logins.get(null, never), logins.get(null, never)]);
  expect([one.headers, two.headers]).toEqual([{ authorization: "Bearer t1" }, { authorization: "Bearer t1" }]);
  expect((await logins.get(one, never)).headers).toEqual({ authorization: "Bearer t2" });
  expect(JSON.parse(readFileSync(runs, "utf8").split("\n")[0] ?? "")).toMatchObject({
    kind: "ExecCredential",
    spec: { interactive: false },
  });
});
