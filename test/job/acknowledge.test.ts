import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { Stop } from "../../src/errors.ts";
import { recoverJobs } from "../../src/journal/delivery/recover.ts";
import {
  type CoordinatorOptions,
  type RecordedRequest,
  startCoordinator,
} from "../../src/local/coordinator/coordinator.ts";
import { never } from "../../src/time.ts";
import { type HandlingOptions, openHandling } from "./handling.ts";
import { recordingLog } from "./stand.ts";

async function setUp(options: Partial<CoordinatorOptions> = {}, timing: HandlingOptions["timing"] = {}) {
  const dir = await mkdtemp(join(tmpdir(), "alloy-acknowledge-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  const local = await startCoordinator({ dialect: "gitlab", ...options });
  onTestFinished(() => local.close());
  const { token } = local.addRunner();
  const open = async () => {
    const handling = await openHandling({ url: local.url, token, dir, timing: { againMs: 5, ...timing } });
    onTestFinished(() => handling.close());
    return handling;
  };
  return { local, token, dir, open };
}

const stateOf = ({ endpoint, body, receivedAt }: RecordedRequest): unknown =>
  endpoint === "update" && receivedAt !== undefined ? JSON.parse(body.toString()).state : undefined;

test("a job is taken once it is on disk, and nothing else of it is sent or run before that was heard", async () => {
  const { local, open } = await setUp();
  const handling = await open();
  const job = local.enqueue({ script: ["echo it runs"] });
  const keptThen: string[][] = [];
  let tries = 0;
  local.intercept = ({ endpoint, jobId }) => {
    if (endpoint !== "update" || jobId !== job.id || ++tries > 3) return undefined;
    void readdir(handling.stateDir.jobsDir).then((kept) => keptThen.push(kept));
    return tries === 2 ? { kind: "drop" } : { kind: "status", status: tries === 1 ? 503 : 412 };
  };
  const received = await handling.receive();
  expect(job.status).toBe("pending");
  const { outcome, delivered } = await handling.handle(received);
  expect([outcome?.result, await delivered, job.status]).toEqual(["success", "delivered", "success"]);
  expect(keptThen.map((kept) => kept.length)).toEqual([1, 1, 1]);
  const ours = local.requests.filter(({ jobId }) => jobId === job.id);
  expect(ours.slice(0, 4).map(({ endpoint }) => endpoint)).toEqual(["update", "update", "update", "update"]);
  expect(ours.findIndex(({ endpoint }) => endpoint === "trace")).toBeGreaterThan(3);
});

test("a job that was given to somebody else meanwhile does not run here, too", async () => {
  const { local, open, dir } = await setUp({ acknowledgeTimeoutMs: 200 });
  const handling = await open();
  const job = local.enqueue({ script: [`echo once >> ${dir}/ran`] });
  const received = await handling.receive();
  local.intercept = ({ jobId }) => (jobId === job.id ? { kind: "drop" } : undefined);
  const first = handling.handle(received);
  await job.finished();
  local.intercept = undefined;
  const { outcome, delivered } = await first;
  expect(outcome).toMatchObject({ result: "canceled" });
  expect(await delivered).toBe("refused");
  expect(job).toMatchObject({ status: "failed", failureReason: "runner_provisioning_timeout", patches: [] });
  const second = await handling.handle(await handling.receive());
  expect([second.outcome?.result, await second.delivered]).toEqual(["success", "delivered"]);
  expect(await readFile(`${dir}/ran`, "utf8")).toBe("once\n");
  expect(job.retriedAs?.status).toBe("success");
  expect(await readdir(handling.stateDir.jobsDir)).toEqual([]);
});

test("a job whose taking is never heard is not run, and its result says so to a version without two phases", async () => {
  const { local, open, dir } = await setUp({ twoPhaseCommit: false }, { acknowledgeMs: 60 });
  const handling = await open();
  const job = local.enqueue({ script: [`touch ${dir}/ran`] });
  const received = await handling.receive();
  expect(job.status).toBe("running");
  local.intercept = (request) => (request.endpoint === "update" ? { kind: "status", status: 502 } : undefined);
  const { outcome, delivered } = await handling.handle(received);
  expect(outcome).toMatchObject({ result: "failed", reason: "runner_system_failure" });
  local.intercept = undefined;
  expect(await delivered).toBe("delivered");
  expect(job.status).toBe("failed");
  expect(job.trace).toMatch(
    /^Job failed \(system failure\): the coordinator did not hear in time[^\n]*502 Bad Gateway \(request [0-9a-f]+\)\n$/,
  );
  expect(await readdir(dir)).not.toContain("ran");
});

test("while a job waits for room here the coordinator hears of it, and a cancel ends the wait", async () => {
  const { local, open, dir } = await setUp({ acknowledgeTimeoutMs: 400 }, { heartbeatMs: 40 });
  const handling = await open();
  const waiting = local.enqueue({ script: ["echo waited"] });
  const canceled = local.enqueue({ script: [`touch ${dir}/ran`] });
  const room = Promise.withResolvers<number>();
  const handled = handling.handle(await handling.receive(), never, handling.executor, room.promise);
  const other = handling.handle(await handling.receive(), never, handling.executor, new Promise(() => {}));
  const signs = (id: string) => local.requests.filter((one) => one.jobId === id && stateOf(one) === "pending").length;
  await local.waitForRequest((one) => one.status !== undefined && signs(waiting.id) > 15);
  expect([waiting.status, canceled.status]).toEqual(["pending", "pending"]);
  canceled.cancel();
  expect((await other).outcome).toMatchObject({ result: "canceled" });
  expect(await (await other).delivered).toBe("refused");
  room.resolve(0);
  expect(await (await handled).delivered).toBe("delivered");
  expect(waiting.status).toBe("success");
  expect(await readdir(dir)).not.toContain("ran");
});

test("a version without two phases is not told that a job waits after it said once that this makes no sense", async () => {
  const { local, open } = await setUp({ twoPhaseCommit: false }, { heartbeatMs: 10 });
  const handling = await open();
  const job = local.enqueue();
  const room = Promise.withResolvers<number>();
  const handled = handling.handle(await handling.receive(), never, handling.executor, room.promise);
  await local.waitForRequest((one) => stateOf(one) === "pending" && one.status === 400);
  room.resolve(0);
  expect(await (await handled).delivered).toBe("delivered");
  expect(job.updates.filter(({ state }) => state === "pending")).toHaveLength(1);
});

test("a runner that is told to stop leaves a job that it has not taken to others", async () => {
  const { local, open } = await setUp({ acknowledgeTimeoutMs: 300 });
  const handling = await open();
  const job = local.enqueue();
  const stop = AbortSignal.abort(new Stop("shutting_down", "the runner is stopped"));
  const { outcome, delivered } = await handling.handle(await handling.receive(), stop);
  expect(outcome).toMatchObject({ result: "failed", reason: "runner_interrupted" });
  expect(await delivered).toBe("refused");
  await job.finished();
  expect(job.retriedAs?.status).toBe("pending");
  expect(await readdir(handling.stateDir.jobsDir)).toEqual([]);
});

test("after kill -9 between the journal entry and its acknowledgement the job runs anew, not a second time", async () => {
  const { local, token, dir, open } = await setUp({ acknowledgeTimeoutMs: 1000 });
  const job = local.enqueue({ script: [`echo once >> ${dir}/ran`] });
  local.intercept = (request) => (request.endpoint === "update" ? { kind: "silence" } : undefined);
  const args = [join(import.meta.dirname, "handle-and-die.ts"), local.url, token, dir];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "inherit", "inherit"] });
  const exit = once(child, "exit");
  await local.waitForRequest(({ endpoint }) => endpoint === "update");
  child.kill("SIGKILL");
  await exit;
  local.intercept = undefined;
  const handling = await open();
  const { journal, outbox, executor } = handling;
  const recovery = await recoverJobs(
    { journal, outbox, executorFor: async () => executor, log: recordingLog() },
    never,
  );
  await recovery.delivered;
  expect(recovery.dead).toBe(1);
  expect(await readdir(handling.stateDir.jobsDir)).toEqual([]);
  await job.finished();
  const { delivered } = await handling.handle(await handling.receive());
  expect(await delivered).toBe("delivered");
  expect(job.retriedAs?.status).toBe("success");
  expect(await readFile(`${dir}/ran`, "utf8")).toBe("once\n");
});
