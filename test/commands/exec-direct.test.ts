import { Readable } from "node:stream";
import { afterEach, beforeEach, expect, test } from "vitest";
import { askingDirectly } from "../../src/commands/exec/here/direct.ts";
import { openCoordinator } from "../../src/coordinator/client.ts";
import type { ArtifactFile, Coordinator } from "../../src/coordinator/contract.ts";
import { type LocalCoordinator, startCoordinator } from "../../src/local/coordinator/coordinator.ts";
import { never } from "../../src/time.ts";
import { info, noTls, testDeps } from "../coordinator/server.ts";

let local: LocalCoordinator;
let coordinator: Coordinator;

beforeEach(async () => {
  local = await startCoordinator({ dialect: "gitlab", listens: false, longPollMs: 20_000, twoPhaseCommit: false });
  const { token } = local.addRunner();
  const deps = testDeps();
  const connections = askingDirectly(local, deps.connections);
  coordinator = openCoordinator({ url: new URL(local.url), token, ...noTls }, { ...deps, connections });
});

afterEach(() => local.close());

async function received() {
  const answer = await coordinator.requestJob(info, { hold: true }, never);
  if (answer.kind !== "job") throw new Error(`no job: ${answer.kind}`);
  return answer.job;
}

const fileOf = (bytes: () => Readable, size: number): ArtifactFile => ({
  fileName: "artifacts.zip",
  format: "zip",
  type: "archive",
  expireIn: "",
  size,
  open: bytes,
});

test("a job, its trace, its report and its files go to the embedded coordinator and back without a socket", async () => {
  const enqueued = local.enqueue({ name: "a" });
  const job = await received();
  expect(job.name).toBe("a");
  const piece = { from: 0, bytes: Buffer.from("hello\n") };
  expect(await coordinator.appendTrace(job, piece, never)).toMatchObject({ status: "running", next: 6 });
  expect(await coordinator.appendTrace(job, piece, never)).toMatchObject({ next: 6 });
  const content = Buffer.alloc(300_000, "content ");
  await coordinator.uploadArtifacts(
    job,
    fileOf(() => Readable.from([content]), content.length),
    never,
  );
  const chunks: Uint8Array[] = [];
  await coordinator.downloadArtifacts(job, (chunk) => void chunks.push(chunk), { direct: false }, never);
  expect(Buffer.concat(chunks).equals(content)).toBe(true);
  const full = new Error("the disk is full");
  const download = coordinator.downloadArtifacts(job, () => Promise.reject(full), { direct: false }, never);
  await expect(download).rejects.toBe(full);
  expect(await coordinator.updateJob(job, { state: "success" }, never)).toMatchObject({ kind: "done" });
  expect(enqueued.status).toBe("success");
  expect(enqueued.liveText).toBe("hello\n");
});

test("a file that cannot be read to its end fails its upload, and nothing of it is kept", async () => {
  const enqueued = local.enqueue();
  const job = await received();
  async function* broken() {
    yield Buffer.from("half");
    throw new Error("the disk has gone");
  }
  const file = fileOf(() => Readable.from(broken(), { objectMode: false }), 8);
  await expect(coordinator.uploadArtifacts(job, file, never)).rejects.toThrow();
  expect(enqueued.artifacts).toEqual([]);
});

test("a request that waits for a job ends with its caller, and with the coordinator", { timeout: 10_000 }, async () => {
  expect(await coordinator.requestJob(info, { hold: true }, never)).toMatchObject({ kind: "none" });
  const reason = new Error("enough");
  const leaving = new AbortController();
  const held = coordinator.requestJob(info, { hold: true }, leaving.signal);
  await local.waitForRequest(({ heldAt }) => heldAt !== undefined);
  leaving.abort(reason);
  await expect(held).rejects.toBe(reason);
  const other = coordinator.requestJob(info, { hold: true }, never);
  await local.waitForRequest(({ heldAt, endedAt }) => heldAt !== undefined && endedAt === undefined);
  local.enqueue();
  expect((await other).kind).not.toBe("trouble");
});

test("others than the embedded coordinator are asked over the network", () => {
  const asked: string[] = [];
  const { connections } = testDeps();
  const outside = {
    ...connections,
    route: (url: URL) => {
      asked.push(url.host);
      return connections.route(url, noTls);
    },
  };
  const inside = askingDirectly(local, outside);
  inside.route(new URL(local.url), noTls);
  inside.route(new URL("http://bucket.example.com/"), noTls);
  // Something of this machine's may listen there.
  for (const host of ["127.0.0.1", "localhost"]) inside.route(new URL(`http://${host}/`), noTls);
  expect(asked).toEqual(["bucket.example.com", "127.0.0.1", "localhost"]);
});
