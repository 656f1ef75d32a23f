import { execFileSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough, Writable } from "node:stream";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { loadCiFile, parseCiFile } from "../../src/local/ci-file.ts";
import { type LocalCoordinator, startCoordinator } from "../../src/local/coordinator.ts";
import { createLineCleaner } from "../../src/local/live-output.ts";
import { withNeeds } from "../../src/local/needs.ts";
import { type PipelineOptions, type PipelineResult, runPipeline } from "../../src/local/pipeline.ts";
import { createSampleProject } from "../../src/local/project.ts";
import { never } from "../../src/time.ts";
import { type Client, type FakeRunner, type ReceivedJob, startFakeRunner } from "./client.ts";

type Play = Parameters<typeof startFakeRunner>[2];

let coordinator: LocalCoordinator;
let runner: FakeRunner | undefined;

beforeEach(async () => {
  coordinator = await startCoordinator({ dialect: "alloy", record: false });
});

afterEach(async () => {
  await runner?.stop();
  runner = undefined;
  await coordinator.close();
});

const nameOf = (job: Record<string, unknown>): string =>
  typeof job.job_info === "object" && job.job_info !== null && "name" in job.job_info ? String(job.job_info.name) : "";

/** Runs `text` as a CI file; each job ends as `play` says. */
async function run(
  text: string,
  play: Play,
  more: Partial<PipelineOptions> = {},
  signal = never,
): Promise<{ result: PipelineResult; output: string }> {
  const { token } = coordinator.addRunner();
  runner = startFakeRunner(coordinator, token, play);
  const output = new PassThrough();
  let shown = "";
  output.setEncoding("utf8").on("data", (piece: string) => {
    shown += piece;
  });
  const result = await runPipeline(
    {
      coordinator,
      file: parseCiFile(text, "ci.yml"),
      project: { repoUrl: "/nowhere", sha: "a".repeat(40), ref: "main" },
      output,
      colors: false,
      ...more,
    },
    signal,
  );
  return { result, output: shown };
}

const states = ({ jobs }: PipelineResult) => Object.fromEntries(jobs.map(({ name, state }) => [name, state]));

const failing =
  (...names: string[]): Play =>
  async (job) => ({
    trace: `${nameOf(job)} says\n`,
    state: names.includes(nameOf(job)) ? "failed" : "success",
    ...(names.includes(nameOf(job)) ? { exitCode: 3 } : {}),
  });

describe("rules", () => {
  const file = `
stages: [a, b, c]
a1: {stage: a, script: [x]}
a2: {stage: a, script: [x], allow_failure: true}
b1: {stage: b, script: [x]}
b2: {stage: b, script: [x], when: on_failure}
b3: {stage: b, script: [x], when: manual}
c1: {stage: c, script: [x], when: always}
c2: {stage: c, script: [x]}
`;

  test("a stage begins when the one before has ended well, whatever was allowed to fail", async () => {
    const order: string[] = [];
    const { result } = await run(file, async (job, client) => {
      order.push(nameOf(job));
      return await failing("a2")(job, client);
    });
    expect(result).toMatchObject({ success: true, canceled: false });
    expect(states(result)).toEqual({
      a1: "success",
      a2: "failed",
      b1: "success",
      b2: "skipped",
      b3: "manual",
      c1: "success",
      c2: "success",
    });
    expect(order.indexOf("b1")).toBeGreaterThan(order.indexOf("a1"));
    expect(order.indexOf("c2")).toBeGreaterThan(order.indexOf("b1"));
  });

  test("after a failure only on_failure and always jobs run, in later stages too", async () => {
    const { result } = await run(file, failing("a1"));
    expect(result.success).toBe(false);
    expect(states(result)).toEqual({
      a1: "failed",
      a2: "success",
      b1: "skipped",
      b2: "success",
      b3: "skipped",
      c1: "success",
      c2: "skipped",
    });
  });

  test("always jobs are queued at once", async () => {
    let sawAlways: () => void = () => undefined;
    const always = new Promise<void>((resolve) => {
      sawAlways = resolve;
    });
    const { result } = await run(file, async (job) => {
      if (nameOf(job) === "c1") sawAlways();
      // The first stage cannot end before the `always` job of the last one has been handed out.
      if (nameOf(job) === "a1") await always;
      return { trace: "", state: "success" };
    });
    expect(result.success).toBe(true);
  });

  test("jobs of one stage run side by side", async () => {
    let arrived = 0;
    let both: () => void = () => undefined;
    const together = new Promise<void>((resolve) => {
      both = resolve;
    });
    await run("x: {script: [x]}\ny: {script: [x]}\n", async () => {
      if (++arrived === 2) both();
      await together;
      return { trace: "", state: "success" };
    });
    expect(arrived).toBe(2);
  });

  test("refs choose jobs, and named jobs run whatever their rules say", async () => {
    const text = "x: {script: [x], only: [tags]}\ny: {script: [x]}\nz: {script: [x], when: manual}\n";
    expect(states((await run(text, failing())).result)).toEqual({ y: "success", z: "manual" });
    await runner?.stop();
    expect(states((await run(text, failing(), { only: ["x", "z"] })).result)).toEqual({ x: "success", z: "success" });
    await runner?.stop();
    await expect(run("unit: {script: [x]}", failing(), { only: ["unti"] })).rejects.toThrow(
      'There is no job "unti" in ci.yml; did you mean "unit"?',
    );
    await runner?.stop();
    const { output } = await run("x: {script: [x], only: [tags]}", failing());
    expect(output).toBe("No job of ci.yml runs on refs/heads/main.\n");
  });

  test("a named job is left out after a failure before it, and runs if it waits for one", async () => {
    const { result } = await run(file, failing("a1"), { only: ["a1", "b1", "b2", "b3", "c1"] });
    expect(states(result)).toEqual({ a1: "failed", b1: "skipped", b2: "success", b3: "skipped", c1: "success" });
    expect(result.firstFailure).toMatchObject({ name: "a1", exitCode: 3 });
  });

  test("what a job needs are those whose artifacts it gets, and what these need", () => {
    const parsed = parseCiFile(
      `
stages: [a, b, c]
a1: {stage: a, script: [x], artifacts: {paths: [x]}}
a2: {stage: a, script: [x], artifacts: {paths: [x]}, only: [tags]}
a3: {stage: a, script: [x]}
b1: {stage: b, script: [x], artifacts: {paths: [x]}, dependencies: [a2]}
b2: {stage: b, script: [x], artifacts: {paths: [x]}, when: manual}
c1: {stage: c, script: [x]}
c2: {stage: c, script: [x], dependencies: [b2]}
`,
      "ci.yml",
    );
    const needs = (name: string, ref = "refs/heads/main") => withNeeds([name], parsed, ref);
    expect(needs("a1")).toEqual(["a1"]);
    expect(needs("c1")).toEqual(["a1", "a2", "b1", "c1"]);
    expect(needs("c2")).toEqual(["a1", "b2", "c2"]);
    expect(needs("c2", "refs/tags/v1")).toEqual(["a1", "a2", "b2", "c2"]);
  });

  test("artifacts of earlier stages are passed on, or those of the named jobs only", async () => {
    const text = `
stages: [a, b]
a1: {stage: a, script: [x], artifacts: {paths: [x]}}
a2: {stage: a, script: [x], artifacts: {paths: [x]}}
b1: {stage: b, script: [x]}
b2: {stage: b, script: [x], dependencies: [a2]}
`;
    const got: Record<string, unknown> = {};
    await run(text, async (job, client) => {
      if (nameOf(job).startsWith("a"))
        await client.call("POST", `jobs/${job.id}/artifacts`, {
          headers: { "content-type": "multipart/form-data; boundary=b", "job-token": job.token },
          body: '--b\r\nContent-Disposition: form-data; name="file"; filename="a.zip"\r\n\r\nx\r\n--b--\r\n',
        });
      got[nameOf(job)] = job.dependencies;
      return { trace: "", state: "success" };
    });
    expect(got.b1).toMatchObject([{ name: "a1" }, { name: "a2" }]);
    expect(got.b2).toMatchObject([{ name: "a2", artifacts_file: { filename: "a.zip" } }]);
  });

  test("variables, secrets and git reach the job", async () => {
    let variables: unknown;
    await run(
      "x: {script: [x], variables: {N: 5}}",
      async (job) => {
        variables = job.variables;
        return { trace: "", state: "success" };
      },
      { secrets: { KEY: "s3cret" } },
    );
    expect(variables).toEqual(
      expect.arrayContaining([
        { key: "N", value: "5", public: true },
        { key: "KEY", value: "s3cret", public: false },
        { key: "CI_COMMIT_SHA", value: "a".repeat(40), public: true },
      ]),
    );
  });
});

describe("display", () => {
  test("lines come with their job's name as they arrive, and a table ends it", async () => {
    const { output, result } = await run(
      "compile: {stage: build, script: [x]}\nlint: {script: [x], allow_failure: true}\nship: {stage: deploy, script: [x], when: manual}\n",
      async (job, client) => {
        const last = nameOf(job) === "lint";
        await client.patch(job, "section_start:1700000000:build\r\u001b[0K\u001b[32;1mBuilding é");
        await client.patch(job, "\u001b[0;m\n10%\r50%\r100%\nsection_end:1700000000:build\r\u001b[0K\n");
        const trace =
          "section_start:1700000000:build\r\u001b[0K\u001b[32;1mBuilding é\u001b[0;m\n10%\r50%\r100%\nsection_end:1700000000:build\r\u001b[0K\nlast line";
        return { trace, state: last ? "failed" : "success", ...(last ? { exitCode: 3 } : {}) };
      },
    );
    expect(result.success).toBe(true);
    const [lines = "", table = ""] = output.split("\n\n");
    expect(lines.split("\n")).toEqual([
      "compile │ Building é",
      "compile │ 100%",
      "compile │ last line",
      "lint    │ Building é",
      "lint    │ 100%",
      "lint    │ last line",
    ]);
    expect(table.replace(/\d\.\d s/g, "0.0 s")).toBe(
      [
        "job      stage   state     time  exit",
        "compile  build   success  0.0 s",
        "lint     test    failed   0.0 s  3 (allowed to fail)",
        "ship     deploy  manual          waits for somebody to start it",
        "",
      ].join("\n"),
    );
  });

  test("a job that only reports at its end is shown as well, and one whose last word differs from its patches", async () => {
    const { output } = await run(
      "stages: [a, b]\nx: {stage: a, script: [x]}\ny: {stage: b, script: [x]}\n",
      async (job, client) => {
        if (nameOf(job) === "x") return { trace: "one\ntwo", state: "success" };
        await client.patch(job, "same\ndiff");
        return { trace: "same\ndefinitely\n", state: "success" };
      },
    );
    expect(output.split("\n\n")[0]?.split("\n")).toEqual(["x │ one", "x │ two", "y │ same", "y │ definitely"]);
  });

  test("with colours each job has its own, and a line ends what it switched on", async () => {
    const { output } = await run(
      "x: {script: [x]}",
      async () => ({
        trace: "\u001b[31mred\nstill\u001b[0m plain\n\u001b[2Jcleared\u001b]0;title\u0007\n",
        state: "success",
      }),
      { colors: true },
    );
    expect(output.split("\n").slice(0, 3)).toEqual([
      "\u001b[36mx │\u001b[0m \u001b[31mred\u001b[0m",
      "\u001b[36mx │\u001b[0m \u001b[31mstill\u001b[0m plain\u001b[0m",
      "\u001b[36mx │\u001b[0m cleared",
    ]);
  });

  test("an output that breaks ends the pipeline and cancels its jobs", async () => {
    const output = new Writable({
      write(_, __, done) {
        done(new Error("nobody reads"));
      },
    });
    const ended = run(
      "x: {script: [x]}\ny: {stage: deploy, script: [x]}",
      async (job, client) => {
        await client.patch(job, "text\n");
        return { trace: "text\n", state: "success" };
      },
      { output },
    );
    await expect(ended).rejects.toThrow("nobody reads");
    expect(coordinator.jobs.every(({ status }) => status !== "running" && status !== "pending")).toBe(true);
  });
});

test("a signal cancels what runs, shows its last words and starts nothing more", async () => {
  const stopping = new AbortController();
  const { result, output } = await run(
    "stages: [a, b]\nx: {stage: a, script: [x]}\ny: {stage: b, script: [x]}\n",
    async (job, client) => {
      await client.patch(job, "begun\n");
      stopping.abort(new Error("enough"));
      await untilCancelled(job, client);
      return { trace: "begun\nstopped\n", state: "failed" };
    },
    {},
    stopping.signal,
  );
  expect(result).toMatchObject({ success: false, canceled: true });
  expect(states(result)).toEqual({ x: "canceled", y: "skipped" });
  expect(output).toContain("x │ stopped\n");
});

async function untilCancelled(job: ReceivedJob, client: Client): Promise<void> {
  while ((await client.patch(job, "")).headers["job-status"] !== "cancelled");
}

describe("lines", () => {
  test.each([
    ["plain", "plain"],
    ["tab\tstays", "tab\tstays"],
    ["\u001b[1mbold\u001b[0m", "bold"],
    ["section_start:1:x\r\u001b[0KHeader", "Header"],
    ["section_end:1:x\r\u001b[0Ksection_start:2:y[collapsed=true]\r\u001b[0K\u001b[36mNext\u001b[0m", "Next"],
    ["section_end:1:x\r\u001b[0K", undefined],
    ["a\rb\r", "b"],
    ["windows line\r", "windows line"],
    ["bell\u0007 and \u001b[2J\u001b[1;1Hmoves \u001b]8;;http://x\u001b\\link", "bell and moves link"],
    ["unfinished \u001b[31", "unfinished "],
    ["", ""],
  ])("%j is shown as %j", (line, shown) => {
    expect(createLineCleaner(false)(line)).toBe(shown);
  });
});

test("the sample project is a real repository with the same commit each time, and its pipeline parses", async () => {
  const dir = await mkdtemp(join(tmpdir(), "sample-"));
  try {
    const one = await createSampleProject(join(dir, "one"));
    const two = await createSampleProject(join(dir, "two"));
    expect(one).toMatchObject({ ref: "main", sha: two.sha });
    expect(one.sha).toMatch(/^[0-9a-f]{40}$/);
    const git = (...args: string[]) => execFileSync("git", ["-C", one.dir, ...args], { encoding: "utf8" });
    expect(git("status", "--porcelain")).toBe("");
    expect(git("rev-parse", "refs/heads/main").trim()).toBe(one.sha);
    const file = await loadCiFile(one.dir);
    expect(file.warnings).toEqual([]);
    expect(file.jobs.map(({ name, stage, allowFailure }) => [name, stage, allowFailure])).toEqual([
      ["compile", "build", false],
      ["unit", "test", false],
      ["lint", "test", true],
    ]);
    const status: Record<string, number> = {};
    for (const job of file.jobs) {
      const env = { PATH: process.env.PATH, CI_JOB_NAME: job.name, CI_JOB_STAGE: job.stage, GREETING: "Hello" };
      try {
        execFileSync("sh", ["-e"], {
          input: job.script.join("\n"),
          cwd: one.dir,
          env,
          stdio: ["pipe", "pipe", "pipe"],
        });
        status[job.name] = 0;
      } catch (error) {
        if (error instanceof Error && "status" in error) status[job.name] = Number(error.status);
      }
    }
    expect(status).toEqual({ compile: 0, unit: 0, lint: 3 });
  } finally {
    await rm(dir, { recursive: true });
  }
});
