import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { Stop } from "../../src/errors.ts";
import { lookAtLife } from "../../src/job/life/durable/look.ts";
import { type LocalCoordinator, startCoordinator } from "../../src/local/coordinator/coordinator.ts";
import { never } from "../../src/time.ts";
import { type HandlingOptions, openHandling } from "./handling.ts";

const key = Buffer.alloc(32, 9);
const SECRET = "geheimnis-4711-lang";
const handedOver = new Stop("handing_over", "the next process goes on");

interface Scene {
  readonly dir: string;
  readonly local: LocalCoordinator;
  readonly handingOver: AbortController;
  readonly handling: Awaited<ReturnType<typeof openHandling>>;
  /** A script line that waits for `goOn(name)`. */
  wait(name: string): string;
  goOn(name: string): void;
}

async function scene(options: Partial<HandlingOptions> = {}): Promise<Scene> {
  const dir = await mkdtemp(join(tmpdir(), "alloy-hand-over-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  const local = await startCoordinator({ dialect: "gitlab" });
  onTestFinished(() => local.close());
  const { token } = local.addRunner();
  const handingOver = new AbortController();
  const durable = { entry: "durable = true", liveKey: key, handOver: handingOver.signal };
  const handling = await openHandling({ url: local.url, token, dir, ...durable, ...options });
  onTestFinished(() => handling.close());
  return {
    ...{ dir, local, handingOver, handling },
    wait: (name) => `until [ -e '${join(dir, name)}' ]; do sleep 0.05; done`,
    goOn: (name) => writeFileSync(join(dir, name), ""),
  };
}

/** Ends what a job left, as the next process does where it cannot go on. */
async function bury({ handling, dir }: Scene): Promise<void> {
  const { jobsDir } = handling.stateDir;
  for (const jobKey of await readdir(jobsDir)) {
    const record = readFileSync(join(jobsDir, jobKey, "record"), "utf8");
    const notes = [...record.matchAll(/"note":(\{.*?\})\}/g)].map(([, note = "{}"]) => JSON.parse(note));
    await handling.executor.recover(jobKey, notes, never);
  }
  expect(existsSync(join(dir, "never"))).toBe(false);
}

test("a durable job is left as it is: its script runs, all that is needed is kept, nobody hears of an end", async () => {
  const it = await scene();
  const { local, handling, handingOver, goOn, dir } = it;
  const job = local.enqueue({
    script: [`echo begun with $SECRET`, it.wait("go"), `touch ${dir}/went-on; sleep 600`],
    afterScript: [`touch ${dir}/never`],
    variables: [{ key: "SECRET", value: SECRET, masked: true }],
  });
  const handled = handling.handle(await handling.receive());
  await job.traceContains("begun with [MASKED]");
  expect(handling.board.jobs()[0]?.outlives).toBe(true);
  handingOver.abort(handedOver);
  const { outcome, delivered } = await handled;
  expect([outcome, await delivered]).toEqual([null, "kept"]);
  onTestFinished(() => bury(it));

  const { jobsDir } = handling.stateDir;
  const [jobKey = ""] = await readdir(jobsDir);
  const found = await lookAtLife(join(jobsDir, jobKey), jobKey, key, handling.entry.token);
  if (found.is !== "whole") throw new Error(JSON.stringify(found));
  const { entries, plan, checkpoint } = found.kept;
  expect(entries.slice(-2).map(({ kind }) => kind)).toEqual(["place", "left"]);
  const begun = entries.findLast(({ kind }) => kind === "begun");
  expect(plan?.stages[begun?.kind === "begun" ? begun.stage : 0]?.name).toBe("build_script");
  // All that came is decided, and the section is open.
  const trace = readFileSync(join(jobsDir, jobKey, "trace"), "utf8");
  expect(checkpoint?.trace.spool).toBe(Buffer.byteLength(trace));
  expect(trace).toMatch(/section_start:\d+:build_script(?!.*section_end).*begun with \[MASKED\]\n/s);
  expect(job.status).toBe("running");
  // It needs nobody.
  goOn("go");
  await expect.poll(() => existsSync(`${dir}/went-on`), { timeout: 10_000 }).toBe(true);
});

test("a job that cannot be left runs to its end, and so does one that is being stopped", async () => {
  const plain = await scene({ entry: "durable = false" });
  const first = plain.local.enqueue({ script: ["echo begun", plain.wait("go"), "echo over"] });
  const running = plain.handling.handle(await plain.handling.receive());
  await first.traceContains("begun\n");
  plain.handingOver.abort(handedOver);
  plain.goOn("go");
  expect((await running).outcome).toEqual({ result: "success" });
  expect(plain.handling.board.jobs()[0]?.outlives).toBeUndefined();

  const canceled = await scene();
  const second = canceled.local.enqueue({
    script: ["echo begun; sleep 600"],
    afterScript: [`touch ${canceled.dir}/after`, canceled.wait("go")],
  });
  const ending = canceled.handling.handle(await canceled.handling.receive());
  await second.traceContains("begun\n");
  second.cancel();
  await expect.poll(() => existsSync(`${canceled.dir}/after`), { timeout: 20_000 }).toBe(true);
  canceled.handingOver.abort(handedOver);
  canceled.goOn("go");
  const { outcome, delivered } = await ending;
  expect([outcome?.result, await delivered]).toEqual(["canceled", "delivered"]);
  expect(await readdir(canceled.handling.stateDir.jobsDir)).toEqual([]);
});

test("files that are being moved are moved to their end, and what ends by that ends here", async () => {
  const { local, handling, handingOver } = await scene();
  const job = local.enqueue({ script: ["echo text >file"], artifacts: { paths: ["file"] } });
  local.intercept = ({ endpoint }) => {
    if (endpoint !== "upload") return undefined;
    handingOver.abort(handedOver);
    return { kind: "delay", delayMs: 200 };
  };
  const { outcome, delivered } = await handling.handle(await handling.receive());
  expect([outcome, await delivered]).toEqual([{ result: "success" }, "delivered"]);
  expect(handingOver.signal.aborted).toBe(true);
  expect(job.artifacts).toHaveLength(1);
});

test("a job that still waits for room is left, too", async () => {
  const { local, handling, handingOver, dir } = await scene();
  const job = local.enqueue({ script: [`touch ${dir}/never`] });
  const room = new Promise<number>(() => {});
  const handled = handling.handle(await handling.receive(), never, handling.executor, room);
  await expect.poll(() => handling.board.jobs()[0]?.outlives, { timeout: 10_000 }).toBe(true);
  handingOver.abort(handedOver);
  expect((await handled).outcome).toBeNull();
  const { jobsDir } = handling.stateDir;
  const [jobKey = ""] = await readdir(jobsDir);
  const found = await lookAtLife(join(jobsDir, jobKey), jobKey, key, handling.entry.token);
  if (found.is !== "whole") throw new Error(JSON.stringify(found));
  expect(found.kept.entries.map(({ kind }) => kind)).toEqual(["masks", "left"]);
  expect(job.status).toBe("pending");
  expect(existsSync(join(dir, "never"))).toBe(false);
});

test("a job that comes when the runner hands over is left before its first stage", async () => {
  const it = await scene();
  it.handingOver.abort(handedOver);
  const job = it.local.enqueue({ script: [`touch ${it.dir}/never`] });
  const { outcome } = await it.handling.handle(await it.handling.receive());
  expect(outcome).toBeNull();
  const { jobsDir } = it.handling.stateDir;
  const [jobKey = ""] = await readdir(jobsDir);
  const found = await lookAtLife(join(jobsDir, jobKey), jobKey, key, it.handling.entry.token);
  if (found.is !== "whole") throw new Error(JSON.stringify(found));
  expect(found.kept.plan).not.toBeNull();
  expect(found.kept.entries.at(-1)?.kind).toBe("left");
  expect(found.kept.entries.some(({ kind }) => kind === "begun")).toBe(false);
  expect(job.status).toBe("running");
  await bury(it);
});
