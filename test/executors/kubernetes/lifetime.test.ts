import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import kubernetes from "../../../executors/kubernetes/index.ts";
import { checkedTable } from "../../../executors/kubernetes/settings/table.ts";
import type { Executor } from "../../../src/executor/executor.ts";
import { never } from "../../../src/time.ts";
import { executorDeps } from "../../support/executor-deps.ts";
import { Sink } from "../../support/executor-kit.ts";
import { requestOf } from "../kubernetes-request.ts";

/** What outlives a job in this process, as the API server sees it: one of the test's, whose pods run and take no programs. */

const running = ["build", "helper"].map((name) => ({ name, state: { running: {} } }));

interface ServeOptions {
  readonly onWatch?: (answer: ServerResponse) => void;
  readonly onPod?: (name: string) => void;
  /** What a program in a pod is refused after. */
  readonly untilThen?: Promise<void>;
  /** Pods can be made, and not be looked for. */
  readonly hidden?: boolean;
}

async function serve({ onWatch, onPod, untilThen, hidden }: ServeOptions): Promise<string> {
  const server = createServer((request: IncomingMessage, answer: ServerResponse) => {
    const { pathname, searchParams } = new URL(request.url ?? "", "http://x");
    const say = (body: object, status = 200): void => void answer.writeHead(status).end(JSON.stringify(body));
    if (searchParams.has("watch")) {
      answer.writeHead(200).flushHeaders();
      onWatch?.(answer);
    } else if (pathname.includes("/leases")) say({ kind: "Status", code: 403, message: "no leases" }, 403);
    else if (pathname.endsWith("/selfsubjectaccessreviews")) say({ status: { allowed: true } });
    else if (request.method === "DELETE") say({ kind: "Status", code: 404, message: "not found" }, 404);
    else if (hidden === true && searchParams.has("labelSelector"))
      say({ kind: "Status", code: 400, message: "no" }, 400);
    else if (request.method === "GET") say({ metadata: { resourceVersion: "1" }, items: [] });
    else {
      const chunks: Buffer[] = [];
      request.on("data", (chunk: Buffer) => chunks.push(chunk));
      request.on("end", () => {
        const pod = JSON.parse(Buffer.concat(chunks).toString("utf8"));
        onPod?.(pod.metadata.name);
        say({ ...pod, metadata: { ...pod.metadata, uid: "u" }, status: { containerStatuses: running } });
      });
    }
  });
  server.on("upgrade", (_request, socket) => {
    void Promise.resolve(untilThen).then(() => socket.end("HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}"));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return `http://127.0.0.1:${address.port}`;
}

function executorAt(host: string, env: NodeJS.ProcessEnv = {}): Executor {
  const dir = mkdtempSync(join(tmpdir(), "alloy-lifetime-"));
  mkdirSync(join(dir, "scratch"));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  const table = checkedTable.parse({ host, namespace: "n", image: "of-job", helper_image: "of-runner" });
  const executor = kubernetes.create({ kubernetes: table }, executorDeps(dir, { env }));
  onTestFinished(async () => await executor.close(never));
  return executor;
}

test("nothing of a pod that ran is watched any longer once its job is over", async () => {
  const begun = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<void>();
  const onWatch = (answer: ServerResponse): void => {
    begun.resolve();
    answer.once("close", ended.resolve);
  };
  const executor = executorAt(await serve({ onWatch, untilThen: begun.promise }));
  await expect(executor.prepare(requestOf({}), new Sink(), never)).rejects.toThrow(/run a program in the container/);
  await ended.promise;
});

test("what may still run in a builds directory keeps the place from other jobs", async () => {
  const names: string[] = [];
  const executor = executorAt(await serve({ onPod: (name) => names.push(name), hidden: true }));
  for (let job = 0; job < 2; job++) await expect(executor.prepare(requestOf({}), new Sink(), never)).rejects.toThrow();
  expect(names.map((name) => /-(\d+)-[0-9a-f]{8}$/.exec(name)?.[1])).toEqual(["0", "1"]);
});

test("an ALLOY_RUNNER_INSTALLATION that no pod's label could hold is an error that names it", async () => {
  const executor = executorAt(await serve({}), { ALLOY_RUNNER_INSTALLATION: "Our Cluster" });
  await expect(executor.prepare(requestOf({}), new Sink(), never)).rejects.toMatchObject({
    reason: "runner_configuration_error",
    message: expect.stringContaining('ALLOY_RUNNER_INSTALLATION is "Our Cluster"'),
  });
});
