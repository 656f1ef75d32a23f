import { afterAll, describe, expect, test } from "vitest";
import { findShellWriter } from "../../shells/index.ts";
import { ScriptFailure, Stop, SystemFailure } from "../../src/errors.ts";
import type { Environment } from "../../src/executor/environment.ts";
import type { Executor } from "../../src/executor/executor.ts";
import { createStand, jobWith, step, variable } from "./stand.ts";

const stand = createStand();
afterAll(() => stand.close());

const none = variable("GIT_STRATEGY", "none");

function knowsAround(): boolean {
  const options = { tmpDir: "/tmp", xtrace: false, proof: "proof" };
  const op = { op: "export", name: "PATH", value: ":/x", around: ["", ":/x"] } as const;
  const { around: _, ...plain } = op;
  const writer = findShellWriter("bash");
  return writer?.write([op], options) !== writer?.write([plain], options);
}

/** The shell executor with another `prepare` around its own. */
function executorWith(prepare: (attempt: number, real: () => Promise<Environment>) => Promise<Environment>): Executor {
  let attempt = 0;
  return {
    ...stand.executor,
    prepare: (request, notes, signal) => prepare(++attempt, () => stand.executor.prepare(request, notes, signal)),
  };
}

describe("a job that succeeds", () => {
  test("tells who runs it, what it runs, and how it ended", async () => {
    const { outcome, trace, states } = await stand.run(
      jobWith({ steps: [step("script", ["echo one", "echo two\necho three", " "])] }),
    );
    expect(outcome).toEqual({ result: "success" });
    expect(trace).toContain(
      "Running with alloy-runner 2.0.0 (abc1234)\n  on builder 7e3b05c2\nUsing Shell executor...\nRunning on ",
    );
    expect(trace).toContain("$ echo one\none\n$ echo two # collapsed multi-line command\ntwo\nthree\n\n");
    expect(trace.endsWith("Job succeeded\n")).toBe(true);
    expect(trace).not.toContain("script-read");
    expect(states.map((state) => (state.at === "running" ? state.stage : state.at))).toEqual([
      "preparing",
      "get_sources",
      "build_script",
      "cleanup_file_variables",
      "finished",
    ]);
  });

  test("has sections where the coordinator knows them", async () => {
    const features = { traceSections: true, failureReasons: [], tokenMaskPrefixes: [] };
    const { trace } = await stand.run(
      jobWith({ features, steps: [step("script", ["true"]), step("after_script", ["true"])] }),
    );
    const names = [...trace.matchAll(/section_start:\d+:(\w+)/g)].map(([, name]) => name);
    expect(names).toEqual(["prepare_executor", "get_sources", "build_script", "after_script"]);
  });

  test("sees its variables byte for byte and only once", async () => {
    const hostile = `a'b"c\\d $(touch pwned) \`id\` %x% !y!\n\ttab é 世界 \u2018`;
    const { trace, outcome } = await stand.run(
      jobWith({
        variables: [none, variable("HOSTILE", "first"), variable("HOSTILE", hostile, { raw: true, public: false })],
        steps: [
          step("script", [
            'printf "%s" "$HOSTILE" | base64 -w0',
            "ls",
            "env | grep -c ^HOSTILE=",
            'test "$CI_PROJECT_DIR" = "$PWD"',
          ]),
        ],
      }),
    );
    expect(outcome.result).toBe("success");
    expect(trace.replace(/\[MASKED\]/g, Buffer.from(hostile).toString("base64"))).toContain(
      Buffer.from(hostile).toString("base64"),
    );
    expect(trace).not.toContain("pwned");
  });

  // A writer without `around` would take the text for the value.
  test.skipIf(!knowsAround())("finds its own PATH behind what it adds to it", async () => {
    const { outcome, trace } = await stand.run(
      jobWith({
        variables: [none, variable("PATH", "/nowhere:$PATH:/x")],
        steps: [step("script", ['ls / >/dev/null; echo "PATH is $PATH"'])],
      }),
    );
    expect(outcome.result).toBe("success");
    expect(trace).toMatch(/PATH is \/nowhere:.*\/bin.*:\/x\n/);
  });

  test("reads file variables, which only it can read and which are gone afterwards", async () => {
    const pem = "-----BEGIN X-----\n$HOME\r\nno final newline";
    const { trace, outcome } = await stand.run(
      jobWith({
        variables: [none, variable("CERT", pem, { file: true }), variable("COPY", "$CERT")],
        steps: [
          step("script", [
            'stat -c "%a %F" "$CERT"',
            'base64 -w0 "$CERT"; echo',
            'test "$COPY" = "$CERT"',
            'echo "at=$CERT="',
          ]),
        ],
      }),
    );
    expect(outcome.result).toBe("success");
    expect(trace).toContain("600 regular file");
    expect(trace).toContain(Buffer.from(pem).toString("base64"));
    const path = /at=([^=]+)=\n/.exec(trace)?.[1] ?? "";
    expect(path).toContain(stand.buildsDir);
    await expect(import("node:fs/promises").then(({ stat }) => stat(path))).rejects.toThrow("ENOENT");
  });

  test("runs pre_build_script and post_build_script in the shell of its script", async () => {
    const { trace } = await stand.run(jobWith({ steps: [step("script", ["echo middle $shared"])] }), {
      runner: { preBuildScript: "shared=yes; echo before", postBuildScript: "echo after" },
    });
    expect(trace).toMatch(/\nbefore\n.*\nmiddle yes\n.*\nafter\n/);
  });
});

describe("a job that fails", () => {
  test.each([
    ["exit 3", 3],
    ["sh -c 'exit 42'", 42],
    ["(exit 7)", 7],
    ["kill -9 $$", 137],
    ["if true; then", 2],
  ])("reports the status of `%s`", async (script, exitCode) => {
    const { outcome, trace } = await stand.run(jobWith({ steps: [step("script", [script, "echo never"])] }));
    expect(outcome).toMatchObject({ result: "failed", reason: "script_failure", exitCode });
    expect(trace).not.toContain("\nnever");
    expect(trace).toMatch(/ERROR: Job failed: .*\b(?:exit status )?\d+.*\n$/);
  });

  test("runs after_script, which cannot change the verdict and knows it", async () => {
    const { outcome, trace } = await stand.run(
      jobWith({
        steps: [
          step("script", ["X=1", "exit 3"]),
          step("after_script", ['echo "status=$CI_JOB_STATUS x=$X in $PWD"', "exit 9"]),
        ],
      }),
    );
    expect(outcome).toMatchObject({ result: "failed", exitCode: 3 });
    expect(trace).toContain("status=failed x= in ");
    expect(trace).toContain("WARNING: after_script failed: exit status 9; this does not change the job's result");
    expect(trace.endsWith("ERROR: Job failed: exit status 3\n")).toBe(true);
  });

  test("fails over its after_script only where it asked for that", async () => {
    const steps = [step("script", ["true"]), step("after_script", ["exit 9"])];
    expect((await stand.run(jobWith({ steps }))).outcome).toEqual({ result: "success" });
    const strict = jobWith({ steps, variables: [none, variable("AFTER_SCRIPT_IGNORE_ERRORS", "false")] });
    expect((await stand.run(strict)).outcome).toMatchObject({ result: "failed", exitCode: 9 });
  });

  test("runs after_script in its temporary directory when the script removed the checkout", async () => {
    const { trace } = await stand.run(
      jobWith({
        steps: [
          step("script", ['cd / && rm -rf "$CI_PROJECT_DIR" "$RUNNER_TEMP_PROJECT_DIR"']),
          step("after_script", ["echo still here"]),
        ],
      }),
    );
    expect(trace).toContain("\nstill here\n");
  });

  test.each([
    [
      [none, variable("GET_SOURCES_ATTEMPTS", "11")],
      'GET_SOURCES_ATTEMPTS is "11", expected is a number from 1 to 10.',
    ],
    [[variable("GIT_STRATEGY", "magic")], 'GIT_STRATEGY is "magic", expected is one of clone, fetch, none, empty.'],
    [[none, variable("BIG", "x".repeat(131_068))], '"BIG"'],
    [[], "git_info.sha"],
  ])("says what is wrong with its settings before anything runs (%#)", async (variables, text) => {
    const git = { ...jobWith().git, sha: "12345" };
    const { outcome, trace } = await stand.run(jobWith({ variables, git }));
    expect(outcome).toMatchObject({ result: "failed", reason: "script_failure" });
    expect(trace.trimEnd().split("\n").at(-1)).toContain(text);
    expect(trace).not.toContain("hello");
  });

  test("keeps a value of the largest size that the system can pass on", async () => {
    const { outcome } = await stand.run(
      jobWith({
        variables: [none, variable("BIG", "x".repeat(131_067))],
        steps: [step("script", ["env | grep -c ^BIG="])],
      }),
    );
    expect(outcome.result).toBe("success");
  });

  test("explains a problem that was seen when it was received", async () => {
    const { outcome, trace } = await stand.run(
      jobWith({ problem: "This job is written as `run` steps.", problemReason: "runner_configuration_error" }),
    );
    expect(outcome).toMatchObject({ result: "failed", reason: "runner_configuration_error" });
    expect(trace).toContain("ERROR: Job failed: This job is written as `run` steps.");
  });
});

describe("further steps", () => {
  test("run by their condition and the results so far", async () => {
    const { trace, outcome } = await stand.run(
      jobWith({
        steps: [
          step("script", ["exit 4"], { when: "on_failure", allowFailure: true }),
          step("release", ["echo released"]),
          step("report", ["echo reported"], { when: "on_failure" }),
          step("tidy", ["echo tidied; exit 5"], { when: "always", allowFailure: true }),
        ],
      }),
    );
    expect(outcome).toMatchObject({ result: "failed", exitCode: 4 });
    expect(trace).not.toContain("\nreleased\n");
    expect(trace).toContain("\nreported\n");
    expect(trace).toContain("\ntidied\n");
  });

  test("that may fail do not decide", async () => {
    const steps = [step("script", ["true"]), step("Odd name; $(id)", ["exit 5"], { allowFailure: true })];
    const { outcome, trace, states } = await stand.run(jobWith({ steps }));
    expect(outcome).toEqual({ result: "success" });
    expect(trace).toContain('WARNING: the step "Odd name; $(id)" failed: exit status 5');
    expect(states).toContainEqual({ at: "running", stage: "step_odd_name_id_" });
  });
});

describe("a job that is stopped", () => {
  const slow = [
    step("script", ["trap 'echo trapped; exit 0' TERM", "echo started", "for i in $(seq 600); do sleep 0.1; done"]),
    step("after_script", ['echo "after: $CI_JOB_STATUS"']),
  ];

  async function stopWhenStarted(stop: Stop): Promise<Awaited<ReturnType<typeof stand.run>>> {
    const job = new AbortController();
    return stand.run(jobWith({ steps: slow }), {
      signal: job.signal,
      onTrace: (text) => {
        if (text.includes("\nstarted\n")) job.abort(stop);
      },
    });
  }

  test("by a cancel that lets it finish runs its after_script", async () => {
    const { outcome, trace } = await stopWhenStarted(new Stop("canceling", "canceled by the coordinator"));
    expect(outcome).toEqual({ result: "canceled", message: "canceled by the coordinator" });
    expect(trace).toContain("\ntrapped\n");
    expect(trace).toContain("\nafter: canceled\n");
    expect(trace.endsWith("ERROR: Job failed: canceled (canceled by the coordinator)\n")).toBe(true);
  });

  test("by its time limit runs its after_script, with a clock of its own", async () => {
    const { outcome, trace } = await stopWhenStarted(new Stop("timed_out", "took longer than 1h0m0s"));
    expect(outcome).toEqual({ result: "failed", reason: "job_execution_timeout", message: "took longer than 1h0m0s" });
    expect(trace).toContain("\nafter: timedout\n");
    expect(trace.endsWith("ERROR: Job failed: took longer than 1h0m0s\n")).toBe(true);
  });

  test.each([
    ["canceled", { result: "canceled", message: "over" }],
    ["shutting_down", { result: "failed", reason: "runner_interrupted", message: "over" }],
  ] as const)("for good (%s) runs nothing more", async (why, expected) => {
    const { outcome, trace } = await stopWhenStarted(new Stop(why, "over"));
    expect(outcome).toEqual(expected);
    expect(trace).not.toContain("after: ");
  });

  test("by the limit of its script runs its after_script", async () => {
    const { outcome, trace } = await stand.run(
      jobWith({ steps: slow, variables: [none, variable("RUNNER_SCRIPT_TIMEOUT", "300ms")] }),
    );
    expect(outcome).toEqual({
      result: "failed",
      reason: "job_execution_timeout",
      message: "the script took longer than 300ms",
    });
    expect(trace).toContain("\nafter: timedout\n");
  });

  test("in its after_script keeps what its script has decided", async () => {
    const job = new AbortController();
    const { outcome, trace } = await stand.run(
      jobWith({
        steps: [step("script", ["true"]), step("after_script", ["echo in after", "sleep 0.3", "echo after is done"])],
      }),
      {
        signal: job.signal,
        onTrace: (text) => {
          if (text.includes("\nin after\n")) job.abort(new Stop("timed_out", "too long"));
        },
      },
    );
    expect(outcome).toEqual({ result: "success" });
    expect(trace).toContain("\nafter is done\n");
  });

  test("a second time ends its after_script too", async () => {
    const job = new AbortController();
    const halt = new AbortController();
    const { outcome, trace } = await stand.run(
      jobWith({
        steps: [step("script", ["echo started; sleep 60"]), step("after_script", ["echo in after; sleep 60"])],
      }),
      {
        signal: job.signal,
        halt: halt.signal,
        onTrace: (text) => {
          if (text.includes("\nstarted\n")) job.abort(new Stop("canceling", "canceled"));
          if (text.includes("\nin after\n")) halt.abort(new Stop("canceled", "gone"));
        },
      },
    );
    expect(outcome.result).toBe("canceled");
    expect(trace).toMatch(/ERROR: Job failed: canceled \(canceled\)\n$/);
  });

  test("before its script began does not run its after_script", async () => {
    const job = new AbortController();
    job.abort(new Stop("canceling", "canceled"));
    const { outcome, trace } = await stand.run(jobWith({ steps: slow }), { signal: job.signal });
    expect(outcome.result).toBe("canceled");
    expect(trace).not.toContain("after: ");
  });
});

describe("the environment", () => {
  test("is asked for three times where another try may help", async () => {
    const executor = executorWith(async (attempt, real) => {
      if (attempt < 3) throw new SystemFailure("Cannot reach the daemon. Is it running?", { retry: true });
      return real();
    });
    const { outcome, trace } = await stand.run(jobWith(), { executor });
    expect(outcome.result).toBe("success");
    expect(trace).toMatch(
      /WARNING: Preparation failed \(try 2 of 3\): Cannot reach the daemon\. Is it running\?(?:\x1b|\n)/,
    );
  });

  test("is given the same reservation at each try, the job's variables, and says its lines in the runner's look", async () => {
    const reservation = { name: "machine-1", [Symbol.asyncDispose]: async () => {} };
    const given: unknown[] = [];
    const executor: Executor = {
      ...stand.executor,
      prepare: async (request, notes, signal) => {
        given.push(request.reservation);
        notes.print("no key of the host is known", "warning");
        expect(request.variables.find(({ key }) => key === "WORD")).toMatchObject({ value: "x-y" });
        if (given.length < 2) throw new SystemFailure("the machine is starting", { retry: true });
        const environment = await stand.executor.prepare(request, notes, signal);
        return { ...environment, variables: [variable("FROM_DRIVER", "$X!")] };
      },
    };
    const variables = [variable("GIT_STRATEGY", "none"), variable("X", "x"), variable("WORD", "$X-y")];
    const { trace } = await stand.run(jobWith({ variables, steps: [step("script", ["echo got $FROM_DRIVER"])] }), {
      executor,
      request: { reservation },
    });
    expect(given).toEqual([reservation, reservation]);
    expect(trace).toContain("\nWARNING: no key of the host is known\n");
    expect(trace).toContain("\ngot x!\n");
  });

  test("knows of each script whose it is", async () => {
    const stages: string[] = [];
    const executor = executorWith(async (_attempt, real) => {
      const environment = await real();
      return {
        ...environment,
        run: (script, output, signal) => {
          stages.push(script.stage);
          return environment.run(script, output, signal);
        },
      };
    });
    await stand.run(jobWith({ steps: [step("script", ["true"]), step("after_script", ["true"])] }), { executor });
    expect(stages).toEqual(["get_sources", "build_script", "after_script"]);
  });

  test.each([
    [new SystemFailure("no such shell"), 1, "runner_system_failure"],
    [new SystemFailure("no daemon", { retry: true }), 3, "runner_system_failure"],
    [new ScriptFailure("no such image"), 1, "script_failure"],
  ] as const)("that cannot be had fails the job (%#)", async (error, tries, reason) => {
    let asked = 0;
    const executor = executorWith(async (attempt) => {
      asked = attempt;
      throw error;
    });
    const { outcome } = await stand.run(jobWith(), { executor });
    expect(outcome).toMatchObject({ result: "failed", reason, message: error.message });
    expect(asked).toBe(tries);
  });

  test("that takes too long fails the job", async () => {
    const executor: Executor = {
      ...stand.executor,
      prepare: (_request, _notes, signal) =>
        new Promise((_resolve, reject) =>
          signal.addEventListener("abort", () => reject(signal.reason), { once: true }),
        ),
    };
    const { outcome } = await stand.run(jobWith(), { executor, runner: { prepareTimeoutMs: 20 } });
    expect(outcome).toMatchObject({
      reason: "runner_system_failure",
      message: "preparing took longer than 20ms (prepare_timeout)",
    });
  });

  test("that throws what nobody expects, anywhere, is a system failure and never a success", async () => {
    const bug = new TypeError("cannot read properties of undefined");
    const places: ((real: Environment) => Environment)[] = [
      () => {
        throw bug;
      },
      (real) => ({ ...real, run: async () => Promise.reject(bug) }),
      (real) => ({
        ...real,
        run: () => {
          throw bug;
        },
      }),
      (real) => ({
        ...real,
        get workspace(): never {
          throw bug;
        },
      }),
      (real) => ({
        ...real,
        get shell(): never {
          throw bug;
        },
      }),
      (real) => ({
        ...real,
        get host(): never {
          throw bug;
        },
      }),
    ];
    for (const place of places) {
      const environments: Environment[] = [];
      const executor = executorWith(async (_attempt, real) => {
        const environment = await real();
        environments.push(environment);
        return place(environment);
      });
      const { outcome, logged, trace } = await stand.run(jobWith(), { executor });
      for (const environment of environments) await environment.destroy(AbortSignal.timeout(10_000));
      expect(outcome).toMatchObject({ result: "failed", reason: "runner_system_failure" });
      expect(trace).not.toContain("TypeError");
      expect(trace).toContain("ERROR: Job failed (system failure): something unexpected went wrong in the runner");
      expect(logged.some(({ fields }) => String(fields?.stack).includes("run.test.ts"))).toBe(true);
    }
  });

  test("whose removal fails or hangs does not keep the verdict back", async () => {
    const real: Environment[] = [];
    const executor = executorWith(async (_attempt, prepare) => {
      const environment = await prepare();
      real.push(environment);
      return {
        ...environment,
        destroy: (signal) =>
          new Promise((_resolve, reject) =>
            signal.addEventListener("abort", () => reject(signal.reason), { once: true }),
          ),
      };
    });
    const { outcome, logged } = await stand.run(jobWith(), { executor, request: { destroyTimeoutMs: 20 } });
    for (const environment of real) await environment.destroy(AbortSignal.timeout(10_000));
    expect(outcome.result).toBe("success");
    expect(logged.map(({ fields }) => fields?.problem)).toContain("clean-up took longer than 20ms");
  });

  test("whose shell ends well before it has read the script is no success", async () => {
    for (const [code, text] of [
      [0, "exit status 0"],
      [5, "exit status 5"],
    ] as const) {
      const executor = executorWith(async (_attempt, prepare) => {
        const environment = await prepare();
        // A profile with `exit` in it ends the shell in this way.
        return {
          ...environment,
          run: (script, output, signal) =>
            script.text.includes("echo hello")
              ? environment.run({ ...script, text: `echo from the profile; exit ${code}\n` }, output, signal)
              : environment.run(script, output, signal),
        };
      });
      const { outcome, trace } = await stand.run(
        jobWith({ steps: [step("script", ["echo hello"]), step("after_script", ["echo after"])] }),
        {
          executor,
        },
      );
      expect(outcome).toMatchObject({ result: "failed", reason: "runner_system_failure" });
      expect(trace).toContain("from the profile");
      expect(trace).toContain(`ended with ${text} before it had read the script`);
    }
  });
});

test("what was odd about a job as it came is said at the top of its trace", async () => {
  const { trace } = await stand.run(jobWith({ warnings: ["The timeout is odd."] }));
  expect(trace).toContain("WARNING: The timeout is odd.");
});

test("names that the shell cannot hold are left out with one warning, and nothing in them runs", async () => {
  const keys = [
    "A-B",
    "1A",
    "ü",
    "A;touch pwned",
    "$(touch pwned)",
    "UID",
    "BASH_FUNC_x%%",
    "__proto__",
    "ALLOY_RUNNER_JOB_KEY",
  ];
  const { trace, outcome } = await stand.run(
    jobWith({
      variables: [none, ...keys.map((key) => variable(key, "value")), variable("NUL", "a\0b")],
      steps: [step("script", ['echo "nul=$NUL proto=$__proto__"', "ls"])],
    }),
  );
  expect(outcome.result).toBe("success");
  expect(trace.match(/names the job's shell cannot hold/g)).toHaveLength(1);
  for (const key of keys.filter((key) => key !== "__proto__")) expect(trace).toContain(JSON.stringify(key));
  expect(trace).toContain("nul=ab proto=value");
  expect(trace).toContain('WARNING: NUL characters were removed from the values of "NUL".');
});

test("CI_DEBUG_TRACE shows the commands of the script, never the exports, unless the operator forbids it", async () => {
  const job = jobWith({
    variables: [none, variable("CI_DEBUG_TRACE", "TRUE"), variable("PLAIN_VALUE", "value-of-a-variable")],
  });
  const { trace } = await stand.run(job);
  expect(trace).toContain("+ echo hello");
  expect(trace).not.toContain("value-of-a-variable");
  const forbidden = await stand.run(job, { runner: { debugTraceDisabled: true } });
  expect(forbidden.trace).not.toContain("+ echo hello");
  expect(forbidden.trace).toContain("WARNING: CI_DEBUG_TRACE is switched off");
});
