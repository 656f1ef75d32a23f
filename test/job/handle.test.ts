import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { crc32 } from "node:zlib";
import { execa } from "execa";
import { expect, onTestFinished, test } from "vitest";
import { Stop, SystemFailure } from "../../src/errors.ts";
import type { Executor } from "../../src/executor/executor.ts";
import { recoverJobs } from "../../src/journal/delivery/recover.ts";
import { type CoordinatorOptions, startCoordinator } from "../../src/local/coordinator/coordinator.ts";
import { never } from "../../src/time.ts";
import { type HandlingOptions, openHandling } from "./handling.ts";

async function setUp(dialect: CoordinatorOptions["dialect"], options: Partial<HandlingOptions> = {}) {
  const local = await startCoordinator({ dialect });
  onTestFinished(() => local.close());
  const { token } = local.addRunner();
  const handling = await openHandling({ url: local.url, token, ...options });
  onTestFinished(() => handling.close());
  return { local, handling, token };
}

/** The trace without colours. */
function plain(trace: string): string {
  return trace.replace(/\x1b\[[0-9;]*[mK]/g, "");
}

test("what is secret in a job's trace is secret in the log, too", async () => {
  const { local, handling } = await setUp("gitlab");
  local.enqueue({ variables: [{ key: "SEC", value: "geheimnis", masked: true }] });
  const executor: Executor = {
    ...handling.executor,
    prepare({ hide, expand }) {
      hide?.(["found-out"]);
      const cause = new Error(`of ${Buffer.from("geheimnis").toString("base64")}`);
      throw new SystemFailure(`cannot pull "${expand("reg/$SEC")}" with found-out`, { cause });
    },
  };
  await handling.handle(await handling.receive(), never, executor);
  const text = JSON.stringify(handling.logged);
  expect(text).toContain('cannot pull \\"reg/[MASKED]\\" with [MASKED]: of [MASKED]');
  expect(text).not.toMatch(/geheimnis|found-out/);
});

const STAMPED = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z 0[01f]O[ +]/;

test("each line of a GitLab job has its time, from the first to the verdict, and the offsets count it", async () => {
  const { local, handling } = await setUp("gitlab", { entry: "output_limit = 2" });
  const job = local.enqueue({
    script: ["printf '10%%\\r'; printf '20%%\\ndone\\n'", "printf 'Sec: %s' $SECRET; printf ' end\\n'", "seq 1 2000"],
    variables: [{ key: "SECRET", value: "geheimnis", masked: true }],
  });
  const { delivered } = await handling.handle(await handling.receive());
  expect(await delivered).toBe("delivered");
  const lines = job.liveText.trimEnd().split("\n");
  expect(lines.filter((line) => !STAMPED.test(line))).toEqual([]);
  const times = lines.map((line) => line.slice(0, 27));
  expect(times).toEqual([...times].sort());
  expect(job.liveText).toMatch(
    /Z 01O 10%\r20%\n[^\n]*Z 01O done\n[^\n]*Z 01O [^\n]*\n[^\n]*Z 01O Sec: \[MASKED\] end\n/,
  );
  expect(job.liveText).toMatch(
    /Z 00O[ +]section_start:\d+:build_script\r\x1b\[0K\n\S+ 00O\+\x1b\[32;1mExecuting the script/,
  );
  expect(job.liveText).toMatch(/Z 00O \S*Job's output exceeded the limit of 2048 bytes/);
  expect(lines.at(-1)).toMatch(/Z 00O \S*Job succeeded/);
  expect(plain(job.trace)).toMatch(/^10%\r20%\ndone\n/m);
  expect(job.updates.at(-1)).toMatchObject({ bytes: job.liveSize });
});

test.each([
  ["of AlloyCI", "alloy", "", {}],
  ["where the entry forbids it", "gitlab", "[runners.feature_flags]\nFF_TIMESTAMPS = false", { FF_TIMESTAMPS: "true" }],
  ["where the job does not want it", "gitlab", "", { FF_TIMESTAMPS: "f" }],
] as const)("no line of a job has a time %s", async (_, dialect, entry, variables) => {
  const { local, handling } = await setUp(dialect, { entry });
  const job = local.enqueue({ script: ["echo one"], variables });
  await (await handling.handle(await handling.receive())).delivered;
  expect(job.status).toBe("success");
  expect(plain(job.trace)).toMatch(/^one$/m);
  expect(job.trace).not.toMatch(/\d{6}Z 0/);
});

test("the policy of a cache may be a variable, and a word that is none ends a job of GitLab before its script", async () => {
  const { local, handling } = await setUp("gitlab");
  const run = async (policy: string, value: string) => {
    const cache = [{ key: "deps", paths: ["made"], policy }];
    const job = local.enqueue({ script: ["echo ran; date > made"], cache, variables: { P: value } });
    const { outcome, delivered } = await handling.handle(await handling.receive());
    await delivered;
    return { trace: job.trace, outcome };
  };
  expect((await run("$P", "pull")).trace).not.toContain("section_start:archive");
  const both = await run("$P", "");
  expect(plain(both.trace)).toMatch(/restore_cache[\s\S]*archive_cache/);
  const foo = await run("$P", "foo");
  expect(foo.outcome).toMatchObject({ result: "failed", reason: "runner_configuration_error" });
  expect(foo.trace).toContain('cache:policy of the cache "deps" is "foo", expected is pull-push, pull or push');
  expect(plain(foo.trace)).not.toMatch(/^ran$/m);
});

test("GitLab hears with each piece of a trace whether it may show secrets, also with one that is sent later", async () => {
  const { local, handling } = await setUp("gitlab");
  const asked = (id: string): (string | null)[] =>
    local.requests
      .filter(({ endpoint, jobId }) => endpoint === "trace" && jobId === id)
      .map(({ path }) => new URL(path, "http://x").searchParams.get("debug_trace"));
  const run = async (variables: Record<string, string>): Promise<Set<string | null>> => {
    const job = local.enqueue({ script: ["echo one"], variables });
    const received = await handling.receive();
    let refused = false;
    local.intercept = ({ endpoint }) => {
      if (endpoint !== "trace" || refused) return undefined;
      refused = true;
      return { kind: "status", status: 500 };
    };
    await (await handling.handle(received)).delivered;
    expect(job.status).toBe("success");
    expect(asked(job.id).length).toBeGreaterThan(1);
    return new Set(asked(job.id));
  };
  expect(await run({})).toEqual(new Set(["false"]));
  expect(await run({ CI_DEBUG_SERVICES: "true" })).toEqual(new Set(["true"]));
  expect(await run({ WANTED: "1", CI_DEBUG_TRACE: "$WANTED" })).toEqual(new Set(["true"]));
  const forbidden = await setUp("gitlab", { entry: "debug_trace_disabled = true" });
  const job = forbidden.local.enqueue({ variables: { CI_DEBUG_TRACE: "true" } });
  await (await forbidden.handling.handle(await forbidden.handling.receive())).delivered;
  expect(job.status).toBe("success");
  expect(forbidden.local.requests.filter(({ path }) => path.endsWith("debug_trace=false")).length).toBeGreaterThan(0);
  expect(forbidden.local.requests.filter(({ path }) => path.endsWith("debug_trace=true"))).toEqual([]);
});

const SAY_TOKENS = "for kind in glft- gltok- _gitlab_session= glpat-; do echo told ${kind}abc.9; done";

test.each([
  { of: "gitlab", entry: "", value: undefined, masked: true },
  { of: "gitlab", entry: "", value: "false", masked: false },
  { of: "gitlab", entry: "FF_MASK_ALL_DEFAULT_TOKENS = true", value: "0", masked: true },
  { of: "gitlab", entry: "FF_MASK_ALL_DEFAULT_TOKENS = false", value: "1", masked: false },
  { of: "alloy", entry: "", value: undefined, masked: false },
] as const)("tokens of all of GitLab's kinds are masked in its jobs unless it is switched off: %j", async (given) => {
  const { local, handling } = await setUp(given.of, { entry: `[runners.feature_flags]\n${given.entry}` });
  const variables = given.value === undefined ? [] : [{ key: "FF_MASK_ALL_DEFAULT_TOKENS", value: given.value }];
  const job = local.enqueue({ variables, script: [SAY_TOKENS] });
  const { delivered } = await handling.handle(await handling.receive());
  await delivered;
  const shown = (kind: string, masked: boolean) => `told ${kind}${masked ? "[MASKED]" : "abc.9"}`;
  for (const kind of ["glft-", "gltok-", "_gitlab_session="])
    expect(plain(job.trace)).toContain(shown(kind, given.masked));
  expect(plain(job.trace)).toContain(shown("glpat-", true));
});

for (const dialect of ["alloy", "gitlab"] as const) {
  test(`${dialect}: a job runs, its result arrives once with its whole trace, and nothing stays`, async () => {
    const { local, handling } = await setUp(dialect);
    const good = local.enqueue({
      script: ["echo one", "seq 1 2000", "echo $SECRET"],
      variables: { SECRET: "geheimnis" },
    });
    const bad = local.enqueue({ script: ["exit 3"] });
    const first = await handling.handle(await handling.receive());
    expect(first.outcome).toEqual({ result: "success" });
    expect(await first.delivered).toBe("delivered");
    const second = await handling.handle(await handling.receive());
    expect(await second.delivered).toBe("delivered");
    expect([good.status, bad.status, bad.exitCode]).toEqual(["success", "failed", 3]);
    expect(plain(good.trace)).toMatch(/one\n[\s\S]*\n1\n2\n[\s\S]*\n2000\n[\s\S]*Job succeeded\n$/);
    expect(plain(bad.trace)).toMatch(/ERROR: Job failed: exit status 3\n$/);
    for (const { updates, traceBytes } of [good, bad]) {
      const finals = updates.filter(({ state }) => state !== "running");
      expect(finals).toHaveLength(1);
      if (dialect === "gitlab") {
        expect(finals[0]?.checksum).toBe(`crc32:${crc32(traceBytes).toString(16).padStart(8, "0")}`);
      }
    }
    expect(await readdir(handling.stateDir.jobsDir)).toEqual([]);
    expect(handling.states.at(-1)).toMatchObject({ at: "finished", outcome: { result: "failed", exitCode: 3 } });
    expect(handling.traced).toBe(good.traceSize + bad.traceSize);
  });

  test(`${dialect}: while the coordinator is away the slot is free, and the result comes when it is back`, async () => {
    const { local, handling } = await setUp(dialect);
    const job = local.enqueue({ script: ["echo before", "seq 1 500", "echo after"] });
    const received = await handling.receive();
    let refused = 0;
    const enough = Promise.withResolvers<void>();
    let taken = dialect === "alloy";
    local.intercept = ({ endpoint }) => {
      // GitLab may give a job to another runner as long as nobody has confirmed that it was taken.
      if (!taken && endpoint === "update") {
        taken = true;
        return undefined;
      }
      if (++refused === 8) enough.resolve();
      return refused % 2 ? { kind: "status", status: 500 } : { kind: "drop" };
    };
    const { outcome, delivered } = await handling.handle(received);
    expect(outcome?.result).toBe("success");
    expect(handling.outbox.gauges().entries).toBe(1);
    await enough.promise;
    local.intercept = undefined;
    expect(await delivered).toBe("delivered");
    expect(job.status).toBe("success");
    expect(plain(job.trace)).toMatch(/^before\n[\s\S]*^499\n500\n[\s\S]*^after\n/m);
    expect(job.updates.filter(({ status, state }) => status === 200 && state === "success")).toHaveLength(1);
  });

  test(`${dialect}: a cancel stops the script, and the job is reported as the coordinator can take it`, async () => {
    const { local, handling } = await setUp(dialect);
    const job = local.enqueue({ script: ["echo started", "sleep 60"], afterScript: ["echo afterwards"] });
    const handled = handling.handle(await handling.receive());
    await job.traceContains("started");
    job.cancel();
    const { outcome, delivered } = await handled;
    expect(outcome).toMatchObject({ result: "canceled" });
    await delivered;
    if (dialect === "alloy") expect(plain(job.trace)).toMatch(/afterwards\n[\s\S]*Job failed: canceled/);
    expect(await readdir(handling.stateDir.jobsDir)).toEqual([]);
  });

  test(`${dialect}: after kill -9 in mid-job the next start ends its processes and reports what happened`, async () => {
    const dir = await mkdtemp(join(tmpdir(), "alloy-handle-"));
    onTestFinished(() => rm(dir, { recursive: true, force: true }));
    const local = await startCoordinator({ dialect });
    onTestFinished(() => local.close());
    const { token } = local.addRunner();
    const job = local.enqueue({ script: ["echo pid $$", "echo Größe", "sleep 300 & sleep 300"] });
    const child = spawn(process.execPath, [join(import.meta.dirname, "handle-and-die.ts"), local.url, token, dir], {
      stdio: ["ignore", "inherit", "inherit"],
    });
    const exit = once(child, "exit");
    await job.traceContains("Größe");
    child.kill("SIGKILL");
    await exit;
    const pid = Number(/pid (\d+)/.exec(job.liveText)?.[1]);
    expect(await isAlive(pid)).toBe(true);

    const handling = await openHandling({ url: local.url, token, dir });
    onTestFinished(() => handling.close());
    const { journal, outbox, executor } = handling;
    const log = { debug() {}, info() {}, warn() {}, error() {}, child: () => log };
    const recovery = await recoverJobs({ journal, outbox, executorFor: async () => executor, log }, never);
    await recovery.delivered;
    expect(recovery).toMatchObject({ dead: 1, undelivered: 0 });
    expect(await isAlive(pid)).toBe(false);
    expect(job).toMatchObject({ status: "failed" });
    if (dialect === "gitlab") {
      expect(
        job.liveText
          .trimEnd()
          .split("\n")
          .filter((line) => !STAMPED.test(line)),
      ).toEqual([]);
      expect(job.liveText).toMatch(/Z 00O \S*ERROR: Job failed \(system failure\): the runner died/);
    }
    expect(plain(job.trace)).toMatch(
      /pid \d+\n[\s\S]*Größe\n[\s\S]*ERROR: Job failed \(system failure\): the runner died while this job ran \(its process ended unexpectedly; .*\)\n$/,
    );
    expect(job.updates.at(-1)?.failureReason).toBe("runner_system_failure");
    expect(await readdir(handling.stateDir.jobsDir)).toEqual([]);
  });
}

/** A process that has ended and waits to be reaped is not alive. */
async function isAlive(pid: number): Promise<boolean> {
  const { stdout } = await execa("ps", ["-o", "stat=", "-p", String(pid)], { reject: false });
  return stdout.trim() !== "" && !stdout.trim().startsWith("Z");
}

test("a job that is over at GitLab stops at once and is not reported", async () => {
  const { local, handling } = await setUp("gitlab");
  const job = local.enqueue({ script: ["echo started", "sleep 60"], afterScript: ["echo afterwards"] });
  const handled = handling.handle(await handling.receive());
  await job.traceContains("started");
  job.cancel("canceled");
  const { outcome, delivered } = await handled;
  expect(outcome).toMatchObject({ result: "canceled" });
  expect(await delivered).toBe("refused");
  expect(job.updates.filter(({ state }) => state !== "running")).toEqual([]);
});

test("a job has its time limit, and its trace says so", async () => {
  const { local, handling } = await setUp("gitlab");
  const job = local.enqueue({ script: ["sleep 60"], timeoutSeconds: 1 });
  const { outcome, delivered } = await handling.handle(await handling.receive());
  await delivered;
  expect(outcome).toMatchObject({ reason: "job_execution_timeout" });
  expect(plain(job.trace)).toMatch(/Job failed: took longer than 1s\n$/);
});

test("a job that comes when the runner stops is answered, not run", async () => {
  const { local, handling } = await setUp("alloy");
  const job = local.enqueue({ script: ["echo never"] });
  const stopping = AbortSignal.abort(new Stop("shutting_down", "the runner is stopping"));
  const { delivered } = await handling.handle(await handling.receive(), stopping);
  expect(await delivered).toBe("delivered");
  expect(job.status).toBe("failed");
  expect(plain(job.trace)).toMatch(/^ERROR: Job failed \(system failure\): the runner is stopping\n$/);
});

test("a job that cannot be understood fails with the explanation", async () => {
  const { local, handling } = await setUp("alloy");
  const job = local.enqueue();
  const received = await handling.receive();
  const problem = "its steps cannot be read";
  const { delivered } = await handling.handle({ ...received, problem, warnings: ["image is a number"] });
  await delivered;
  expect(job.status).toBe("failed");
  expect(plain(job.trace)).toMatch(/^Running with alloy-runner .*\n/);
  expect(plain(job.trace)).toContain(`WARNING: image is a number\nERROR: Job failed (system failure): ${problem}\n`);
});

test("a job that asks for what cannot be fails so that GitLab does not repeat it as a failure of the system", async () => {
  const { local, handling } = await setUp("gitlab");
  const features = { failure_reasons: ["runner_system_failure", "runner_configuration_error"] };
  const job = local.enqueue({ payload: { run: '[{"name":"a","script":"true"}]', steps: undefined, features } });
  const { delivered } = await handling.handle(await handling.receive());
  await delivered;
  expect(plain(job.trace)).toContain("This job is written as `run` steps, which this runner does not support");
  expect(job.updates.at(-1)?.failureReason).toBe("runner_configuration_error");
});

test("a job that cannot be kept is answered without being run", async () => {
  const { local, handling } = await setUp("alloy");
  const job = local.enqueue({ script: ["touch /tmp/never"] });
  const received = await handling.receive();
  await rm(handling.stateDir.jobsDir, { recursive: true });
  const { outcome, delivered } = await handling.handle(received);
  expect(outcome).toMatchObject({ reason: "runner_system_failure" });
  expect(await delivered).toBe("delivered");
  expect(job.status).toBe("failed");
  expect(plain(job.trace)).toMatch(
    /^ERROR: Job failed \(system failure\): the runner cannot store the job: Cannot keep job .*ENOENT/,
  );
});

test("a job whose trace cannot be opened counts as failed", async () => {
  const { local, handling } = await setUp("alloy");
  const job = local.enqueue({ script: ["echo never"] });
  const received = await handling.receive();
  const room = Promise.withResolvers<number>();
  const handled = handling.handle(received, never, handling.executor, room.promise);
  const kept = async (): Promise<string[]> => await readdir(handling.stateDir.jobsDir).catch(() => []);
  await expect.poll(async () => (await kept()).length).toBe(1);
  const [key = ""] = await kept();
  const trace = join(handling.stateDir.jobsDir, key, "trace");
  await expect.poll(async () => (await readdir(dirname(trace))).includes("trace")).toBe(true);
  await rm(trace);
  await symlink("elsewhere", trace);
  room.resolve(0);
  const { outcome, delivered } = await handled;
  expect(outcome).toMatchObject({ result: "failed", reason: "runner_system_failure" });
  expect(handling.states).toEqual([{ at: "finished", outcome: { result: "failed", reason: "runner_system_failure" } }]);
  await delivered;
  expect(job.status).toBe("failed");
});

test("a state directory that is deleted in mid-job fails the job, with a word about its output", async () => {
  const { local, handling } = await setUp("alloy");
  const job = local.enqueue({ script: ["echo started", "while :; do echo more; sleep 0.1; done"] });
  const handled = handling.handle(await handling.receive());
  await job.traceContains("started");
  await rm(handling.stateDir.jobsDir, { recursive: true });
  const { outcome, delivered } = await handled;
  expect(outcome).toMatchObject({ result: "failed", reason: "runner_system_failure" });
  expect(await delivered).toBe("delivered");
  expect(job.status).toBe("failed");
  expect(plain(job.trace)).toContain("the output of this job was lost on the runner");
});

test("an executor with a bug makes no success", async () => {
  const { local, handling } = await setUp("alloy");
  for (const where of ["prepare", "destroy"] as const) {
    const job = local.enqueue({ script: ["true"] });
    const bug = async (): Promise<never> => Promise.reject(new TypeError("undefined is not a bug"));
    const broken: Executor = {
      ...handling.executor,
      prepare: async (...args) => {
        if (where === "prepare") return await bug();
        const environment = await handling.executor.prepare(...args);
        return {
          ...environment,
          destroy: async (signal) => {
            await environment.destroy(signal);
            return await bug();
          },
        };
      },
    };
    const { delivered } = await handling.handle(await handling.receive(), never, broken);
    await delivered;
    expect(job.status).toBe(where === "prepare" ? "failed" : "success");
    expect(job.trace).not.toContain("undefined is not a bug");
  }
});

test("twenty jobs at once keep their traces apart", async () => {
  const { local, handling } = await setUp("gitlab");
  const jobs = Array.from({ length: 20 }, (_, index) =>
    local.enqueue({ script: [`for i in $(seq 1 300); do echo "job-${index}-line"; done`] }),
  );
  const handled = await Promise.all(
    await jobs.reduce(
      async (before, _) => [...(await before), handling.handle(await handling.receive())],
      Promise.resolve<ReturnType<typeof handling.handle>[]>([]),
    ),
  );
  await Promise.all(handled.map(({ delivered }) => delivered));
  for (const [index, { trace, status }] of jobs.entries()) {
    expect(status).toBe("success");
    const lines = plain(trace).match(/^job-\d+-line$/gm);
    expect(lines).toHaveLength(300);
    expect(new Set(lines)).toEqual(new Set([`job-${index}-line`]));
  }
});

test("a job that has to wait for a slot is on disk while it waits", async () => {
  const { local, handling } = await setUp("alloy");
  const job = local.enqueue({ script: ["echo number $CI_CONCURRENT_ID"] });
  const room = Promise.withResolvers<number>();
  const handled = handling.handle(await handling.receive(), never, handling.executor, room.promise);
  await expect.poll(() => readdir(handling.stateDir.jobsDir)).toHaveLength(1);
  expect(job.trace).toBe("");
  room.resolve(2);
  await (await handled).delivered;
  expect(plain(job.trace)).toContain("\nnumber 2\n");
});

test("a whole run shows nothing secret on the board, and its operator can read along and cancel", async () => {
  const { local, handling } = await setUp("gitlab");
  const secret = "hunter2-hunter2-hunter2";
  const seen: string[] = [];
  handling.board.watch((view) => seen.push(JSON.stringify(view)));
  const job = local.enqueue({
    name: "unit",
    variables: [{ key: "SECRET", value: secret, masked: true }],
    script: ["echo begun $SECRET", "sleep 60"],
    afterScript: ["echo after $SECRET"],
  });
  const received = await handling.receive();
  const handled = handling.handle(received);
  await job.traceContains("begun");
  const { number } = handling.board.jobs()[0] ?? { number: 0 };
  const tail = String(await handling.board.trace(number)?.read(0, 100_000));
  expect(tail).toContain("begun [MASKED]");
  expect(handling.board.cancel(number)).toBe(true);
  const { outcome, delivered } = await handled;
  expect(outcome).toMatchObject({ result: "canceled", message: "by the operator of this runner" });
  await delivered;
  expect(plain(job.trace)).toContain("after [MASKED]");
  const all = [...seen, tail].join("\n");
  expect(seen.length).toBeGreaterThan(5);
  for (const hidden of [secret, received.token, handling.entry.token]) expect(all).not.toContain(hidden);
});

test("what an executor logs of jobs under way shows their secrets to nobody, in words and fields", async () => {
  const { local, handling } = await setUp("gitlab");
  const secret = "hunter2-hunter2-hunter2";
  const job = local.enqueue({
    variables: [{ key: "SECRET", value: secret, masked: true }],
    script: ["echo done $SECRET"],
  });
  const log = handling.executorLog.child({ host: "far" });
  const received = await handling.receive();
  const talking: Executor = {
    ...handling.executor,
    prepare: async (request, notes, signal) => {
      log.warn(`Cannot remove the network of ${secret}`, { processes: [`sleep ${secret}`], error: new Error(secret) });
      return await handling.executor.prepare(request, notes, signal);
    },
  };
  const { delivered } = await handling.handle(received, never, talking);
  await delivered;
  expect(plain(job.trace)).toContain("done [MASKED]");
  const all = JSON.stringify(handling.logged);
  expect(all).toContain("Cannot remove the network of [MASKED]");
  expect(all).not.toContain(secret);
  // The secrets of a job that is over are not masked in the log any more.
  log.info(`once ${secret}`);
  expect(JSON.stringify(handling.logged)).toContain(`once ${secret}`);
});
