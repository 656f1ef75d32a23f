import { spawn } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, chmodSync, cpSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { buryLife, lookAtLife } from "../../src/job/life/durable/look.ts";
import { recoverJobs } from "../../src/journal/delivery/recover.ts";
import { encodeLine } from "../../src/journal/records/record-lines.ts";
import { startCoordinator } from "../../src/local/coordinator/coordinator.ts";
import { never } from "../../src/time.ts";
import { openVault, VAULT_JWT, vaultSecret } from "../support/stores/vault.ts";
import { openHandling } from "./handling.ts";
import { recordingLog } from "./stand.ts";

const key = Buffer.alloc(32, 9);
const SECRET = "geheimnis-4711-lang";

/** A job that waits in its script, and how it is let go on. */
function waiting(dir: string) {
  const go = join(dir, "go");
  return {
    work: {
      script: ["echo begun", `until [ -e '${go}' ]; do sleep 0.05; done`, "echo over $SECRET"],
      afterScript: ["echo afterwards"],
      variables: [{ key: "SECRET", value: SECRET, masked: true }],
    },
    goOn: () => writeFileSync(go, ""),
  };
}

/** All files below `dir` in which `text` stands. */
async function filesWith(dir: string, text: string): Promise<string[]> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  return files.filter((file) => existsSync(file) && readFileSync(file, "latin1").includes(text));
}

async function temporary(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "alloy-durable-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

for (const dialect of ["alloy", "gitlab"] as const) {
  test(`${dialect}: a durable job can be found out about while it runs, and nothing of it stays`, async () => {
    const local = await startCoordinator({ dialect });
    onTestFinished(() => local.close());
    const { token } = local.addRunner();
    const handling = await openHandling({ url: local.url, token, entry: "durable = true", liveKey: key });
    onTestFinished(() => handling.close());
    const { work, goOn } = waiting(handling.dir);
    const job = local.enqueue(work);
    const received = await handling.receive();
    const handled = handling.handle(received);
    await job.traceContains("begun");

    const { jobsDir, path: stateDir } = handling.stateDir;
    const [jobKey = ""] = await readdir(jobsDir);
    const found = await lookAtLife(join(jobsDir, jobKey), jobKey, key, token);
    if (found.is !== "whole") throw new Error(JSON.stringify(found));
    const { kept } = found;
    expect(kept.job).toEqual(JSON.parse(JSON.stringify(received)));
    expect(JSON.parse(kept.entry)).toMatchObject({ name: "r", token, durable: true });
    expect(kept.plan?.stages.map(({ name }) => name)).toContain("after_script");
    expect(kept.checkpoint).toMatchObject({ trace: { limit: { reached: false } } });
    const steps = kept.entries.map(({ kind }) => kind);
    expect(steps.filter((kind) => kind !== "own")).toEqual(
      expect.arrayContaining(["masks", "limit", "preparing", "prepared", "begun", "script", "place"]),
    );
    const lastStep = kept.entries.findLast(({ kind }) => kind === "begun");
    const running = lastStep?.kind === "begun" ? kept.plan?.stages[lastStep.stage] : undefined;
    expect(running?.name).toBe("build_script");
    expect(await filesWith(stateDir, SECRET)).toEqual([]);
    // Its lines in the trace are those that are kept of it.
    const trace = readFileSync(join(jobsDir, jobKey, "trace"), "utf8");
    for (const entry of kept.entries) if (entry.kind === "own") expect(trace).toContain(entry.text.split("\n")[0]);

    goOn();
    const { outcome, delivered } = await handled;
    expect(outcome).toEqual({ result: "success" });
    expect(await delivered).toBe("delivered");
    expect(job.trace).toMatch(/over \[MASKED\]/);
    expect(await readdir(jobsDir)).toEqual([]);
    expect(await filesWith(stateDir, SECRET)).toEqual([]);
  });
}

test("what a durable job's stores told is hidden in its trace by whoever goes on with it, too", async () => {
  const vault = await openVault();
  const local = await startCoordinator({ dialect: "gitlab" });
  onTestFinished(() => local.close());
  const { token } = local.addRunner();
  const handling = await openHandling({ url: local.url, token, entry: "durable = true", liveKey: key });
  onTestFinished(() => handling.close());
  const { work, goOn } = waiting(handling.dir);
  const job = local.enqueue({
    ...work,
    variables: [...work.variables, { key: "VAULT_ID_TOKEN", value: VAULT_JWT, masked: true, public: false, raw: true }],
    payload: { secrets: { PASSWORD: { vault: vaultSecret(vault.url), file: false } } },
  });
  const handled = handling.handle(await handling.receive());
  await job.traceContains("begun");
  const { jobsDir } = handling.stateDir;
  const [jobKey = ""] = await readdir(jobsDir);
  const found = await lookAtLife(join(jobsDir, jobKey), jobKey, key, token);
  expect(found.is === "whole" ? found.kept.secrets : found).toContain("kv2-pass-word");
  goOn();
  expect((await handled).outcome).toEqual({ result: "success" });
});

test("a durable job that died with its runner is buried, with a word on why nobody goes on with it", async () => {
  const dir = await temporary();
  const local = await startCoordinator({ dialect: "alloy" });
  onTestFinished(() => local.close());
  const { token } = local.addRunner();
  const { work } = waiting(dir);
  const job = local.enqueue(work);
  const program = [join(import.meta.dirname, "handle-and-die.ts"), local.url, token, dir, key.toString("hex")];
  const child = spawn(process.execPath, program, { stdio: ["ignore", "inherit", "inherit"] });
  const exit = once(child, "exit");
  await job.traceContains("begun");
  child.kill("SIGKILL");
  await exit;

  const copies = await temporary();
  const handling = await openHandling({ url: local.url, token, dir });
  onTestFinished(() => handling.close());
  const { journal, outbox, executor, stateDir } = handling;
  const log = recordingLog(handling.logged);
  const [leftover] = journal.leftovers();
  if (leftover === undefined) throw new Error("nothing was left");
  const { record } = leftover;
  const copy = (name: string): string => {
    cpSync(record.dir, join(copies, name), { recursive: true });
    chmodSync(join(copies, name), 0o700);
    return join(copies, name);
  };
  const whole = copy("whole");
  expect(await lookAtLife(whole, record.stored.key, key, token)).toMatchObject({ is: "whole" });
  expect(await buryLife({ ...record, dir: whole }, { key, by: "2.0.0", log })).toBeNull();
  expect(existsSync(join(whole, "payload"))).toBe(false);
  const newer = copy("newer");
  appendFileSync(join(newer, "life"), encodeLine({ kind: "a step that comes later" }));
  expect(await buryLife({ ...record, dir: newer }, { key, by: "1.9.9", log })).toBe(
    "the job was begun by alloy-runner 2.0.0, which this one (1.9.9) cannot follow",
  );

  const recovery = await recoverJobs(
    {
      ...{ journal, outbox, executorFor: async () => executor, log },
      lookAt: (one) => buryLife(one, { key: Buffer.alloc(32, 1), by: "2.0.0", log }),
    },
    never,
  );
  await recovery.delivered;
  expect(job.status).toBe("failed");
  expect(job.trace).toMatch(/the runner died while this job ran \(its process .*; what it was doing was not kept\)/);
  expect(handling.logged).toContainEqual({
    level: "warn",
    message: "what a job was doing cannot be used",
    fields: { job: job.id, problem: "payload: it is not this job's, was changed, or the key is another" },
  });
  expect(await readdir(stateDir.jobsDir)).toEqual([]);
  expect(await filesWith(stateDir.path, SECRET)).toEqual([]);
});
