import {
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { z } from "zod";
import { restoreDir } from "../../executors/custom/clean-up/clean-up.ts";
import { readAnswer } from "../../executors/custom/driver/answer.ts";
import { ScriptFailure, Stop, SystemFailure } from "../../src/errors.ts";
import type { Environment } from "../../src/executor/environment.ts";
import type { PrepareRequest } from "../../src/executor/prepare.ts";
import type { Service, Variable } from "../../src/job/job.ts";
import { never } from "../../src/time.ts";
import { pwshSource, runOps, Sink, sampleRequest, scriptOf, source } from "../support/executor-kit.ts";
import { isAlive } from "../support/processes.ts";
import { pwshFolder } from "../support/pwsh.ts";
import { type CustomStand, openCustomStand } from "./custom-stand.ts";

let stand: CustomStand;
beforeEach(() => {
  stand = openCustomStand();
});
afterEach(() => stand.close());

/** Prepares a job, which is destroyed at the end of `body`. */
async function inJob<T>(
  table: Readonly<Record<string, unknown>>,
  body: (environment: Environment, notes: Sink) => Promise<T>,
  request: PrepareRequest = sampleRequest(),
): Promise<T> {
  const executor = stand.open(table);
  const notes = new Sink();
  try {
    const environment = await executor.prepare(request, notes, never);
    try {
      return await body(environment, notes);
    } finally {
      await environment.destroy(never);
    }
  } finally {
    await executor.close(never);
  }
}

/** Why a job cannot be prepared, and what its trace says. */
async function refusal(table: Readonly<Record<string, unknown>>): Promise<{ error: Error; notes: string }> {
  const executor = stand.open(table);
  const notes = new Sink();
  const error = await executor.prepare(sampleRequest(), notes, never).then(
    () => new Error("was prepared"),
    (caught: unknown) => (caught instanceof Error ? caught : new Error(String(caught))),
  );
  await executor.close(never);
  return { error, notes: notes.text };
}

describe("what config_exec prints", () => {
  const defaults = { buildsDir: "/b", shell: "bash", shells: ["bash", "sh", "pwsh"] } as const;
  const read = (printed: string, more = {}) => readAnswer(printed, "config_exec (/c)", { ...defaults, ...more });

  test("nothing, and unknown keys, change nothing", () => {
    const plain = { driver: null, buildsDir: "/b", shared: false, hostname: "", jobEnv: {}, shell: "bash" };
    expect(read("")).toEqual(plain);
    expect(read(' {"later": [1], "shell": "", "driver": {"version": "1"}}\n')).toEqual(plain);
  });

  test("is taken", () => {
    const all = {
      driver: { name: "d", version: "1" },
      builds_dir: "/x/",
      cache_dir: "/c",
      builds_dir_is_shared: true,
      hostname: "h",
      job_env: { A: "b" },
      shell: "sh",
    };
    expect(read(JSON.stringify(all))).toEqual({
      driver: { name: "d", version: "1" },
      buildsDir: "/x",
      shared: true,
      hostname: "h",
      jobEnv: { A: "b" },
      shell: "sh",
    });
    expect(read('{"builds_dir": "C:\\\\builds"}').buildsDir).toBe("C:/builds");
  });

  test.each([
    ["abcd", true, /printed "abcd", which is no JSON/],
    ["[]", true, /no answer/],
    ['{"job_env": {"A": 1}}', true, /no answer at job_env\.A/],
    ['{"builds_dir": ""}', false, /builds_dir of config_exec \(\/c\) is empty/],
    ['{"cache_dir": ""}', false, /cache_dir .* is empty/],
    ['{"builds_dir": "builds"}', false, /"builds", which is not absolute/],
    ['{"shell": "fish"}', false, /shell of config_exec \(\/c\) is "fish". Use one of "bash"/],
    ['{"job_env": {"A=B": ""}}', false, /no environment can hold/],
  ])("%s is refused, and tried again only where that may pass", (printed, retry, message) => {
    const error = (() => {
      try {
        read(printed);
      } catch (caught) {
        return caught;
      }
      return null;
    })();
    expect(error).toBeInstanceOf(SystemFailure);
    expect(error).toMatchObject({ retry, message: expect.stringMatching(message) });
    if (!retry) expect(error).toMatchObject({ reason: "runner_configuration_error" });
  });

  test("no builds_dir anywhere is an error of the configuration", () => {
    expect(() => read("", { buildsDir: undefined })).toThrow(/builds_dir is not set/);
  });

  test("garbage is shown with the program's name, its stderr is in the trace, and clean-up follows", async () => {
    const config = stand.program("config", "echo oops >&2; echo 'not json'");
    const cleanup = stand.program("cleanup", `echo x >>${join(stand.dir, "cleaned")}`);
    const { error, notes } = await refusal({ config_exec: config, cleanup_exec: cleanup });
    expect(error.message).toContain(`config_exec (${config}) printed "not json", which is no JSON`);
    expect(notes).toBe("oops\n");
    expect(readFileSync(join(stand.dir, "cleaned"), "utf8")).toBe("x\n");
  });
});

describe("exit codes", () => {
  test.each([
    ["exit 1", { code: 1, signal: null }],
    ['echo 42 >"$BUILD_EXIT_CODE_FILE"; exit 1', { code: 42, signal: null }],
    ['printf 137 >"$BUILD_EXIT_CODE_FILE"; exit 1', { code: 137, signal: "SIGKILL" }],
    // Nobody waits for what is written into a pipe that nobody writes to.
    ['mkfifo "$BUILD_EXIT_CODE_FILE" "$JOB_USAGE_FILE"; exit 1', { code: 1, signal: null }],
    ["exit 0", { code: 0, signal: null }],
  ])("%s", async (end, expected) => {
    const run = stand.program("run", `bash "$1" || true; [ "$2" = build_script ] || exit 0\n${end}`);
    await inJob({ run_exec: run }, async (environment) => {
      expect(await runOps(environment, source("true"))).toMatchObject(expected);
    });
  });

  test("what the driver says that scripts have used is added up, whatever they end with", async () => {
    const said = [
      '{"cpu_seconds": 1.5, "peak_memory_bytes": 3000, "written_bytes": "x", "more": 1}',
      '{"cpu_seconds": 0.5, "peak_memory_bytes": 2000, "read_bytes": 7}',
      "no JSON",
      `"${"x".repeat(10_000)}"`,
    ];
    const run = stand.program(
      "run",
      `[ "$2" = build_script ] || exec bash "$1"
       number=$(cat number 2>/dev/null || echo 0); echo $((number + 1)) >number
       cp "${stand.dir}/said-$number" "$JOB_USAGE_FILE" 2>/dev/null; exit $((number % 2))`,
    );
    for (const [at, text] of said.entries()) writeFileSync(join(stand.dir, `said-${at}`), text);
    await inJob({ run_exec: run }, async (environment) => {
      expect(await environment.usage?.(never)).toEqual({});
      for (let at = 0; at <= said.length; at++) {
        await environment.run(scriptOf(environment, source("true")), new Sink(), never);
      }
      expect(await environment.usage?.(never)).toEqual({ cpuSeconds: 2, peakMemoryBytes: 3000, readBytes: 7 });
    });
  });

  test.each([
    ["exit 2", /run_exec \(.*run\) at stage build_script ended with status 2: it calls this a failure of the system/],
    ["exit 255", /at stage build_script ended with status 255/],
    ["kill -9 $$", /at stage build_script ended by SIGKILL/],
    ['echo x >"$BUILD_EXIT_CODE_FILE"; exit 1', /wrote "x" to BUILD_EXIT_CODE_FILE/],
    [': >"$BUILD_EXIT_CODE_FILE"; exit 1', /wrote "" to BUILD_EXIT_CODE_FILE/],
    ['echo 0 >"$BUILD_EXIT_CODE_FILE"; exit 1', /wrote "0" to BUILD_EXIT_CODE_FILE/],
    ["exit 127", /ended with status 127/],
  ])("%s is a failure of the system", async (end, message) => {
    const run = stand.program("run", `[ "$2" = build_script ] || exec bash "$1"\n${end}`);
    await inJob({ run_exec: run }, async (environment) => {
      const ran = environment.run(scriptOf(environment, source("true")), new Sink(), never);
      await expect(ran).rejects.toMatchObject({
        name: "SystemFailure",
        retry: true,
        message: expect.stringMatching(message),
      });
    });
  });

  test("of prepare_exec: 1 is the job's failure, 2 may pass", async () => {
    const one = await refusal({
      prepare_exec: stand.program("one", "echo no such image; exit $BUILD_FAILURE_EXIT_CODE"),
    });
    expect(one.error).toBeInstanceOf(ScriptFailure);
    expect(one.notes).toContain("no such image\n");
    const two = await refusal({ prepare_exec: stand.program("two", "exit $SYSTEM_FAILURE_EXIT_CODE") });
    expect(two.error).toMatchObject({ name: "SystemFailure", retry: true });
  });

  test("a program that is not there may come", async () => {
    const { error } = await refusal({ prepare_exec: "/nowhere/prepare" });
    expect(error).toMatchObject({
      retry: true,
      message: expect.stringContaining("prepare_exec (/nowhere/prepare) cannot be started"),
    });
  });
});

describe("what programs find", () => {
  const variable = (key: string, value: string, more: Partial<Variable> = {}): Variable => ({
    key,
    value,
    public: true,
    file: false,
    masked: false,
    raw: true,
    ...more,
  });
  const service = (more: Partial<Service>): Service => ({
    name: "redis:latest",
    entrypoint: null,
    pullPolicies: [],
    user: null,
    platform: null,
    aliases: [],
    command: null,
    variables: [],
    ...more,
  });

  test("the job's variables, each byte of them, and the runner's own environment untouched", async () => {
    const value = "two\nlines $HOME 'x' \"y\" ü";
    const dump = stand.program(
      "prepare",
      `env -0 >${join(stand.dir, "env")}; cp "$JOB_RESPONSE_FILE" ${join(stand.dir, "response")}; pwd >${join(stand.dir, "pwd")}`,
    );
    const config = stand.program("config", `echo '{"job_env": {"FOO": "bar", "CUSTOM_ENV_CI_JOB_ID": "x"}}'`);
    const sample = sampleRequest();
    const services = [
      service({}),
      service({
        name: "postgres:16",
        aliases: ["db", "other"],
        entrypoint: ["/x"],
        command: ["-c", "y"],
        variables: [variable("POSTGRES_DB", "app")],
      }),
    ];
    const request: PrepareRequest = {
      ...sample,
      job: { ...sample.job, services, payload: '{"id":1,"unknown":"kept"}' },
      variablesAt: () => [
        variable("PATH", "/of/the/job"),
        variable("ODD", value),
        variable("CERT", "content", { file: true }),
        variable("HUGE", "x".repeat(200 * 1024)),
      ],
    };
    const notes = await inJob({ config_exec: config, prepare_exec: dump }, async (_, { text }) => text, request);
    const env = new Map(
      readFileSync(join(stand.dir, "env"), "utf8")
        .split("\0")
        .map((entry) => [entry.slice(0, entry.indexOf("=")), entry.slice(entry.indexOf("=") + 1)] as const),
    );
    expect(env.get("PATH")).toBe(process.env.PATH);
    expect(env.get("CUSTOM_ENV_PATH")).toBe("/of/the/job");
    expect(env.get("CUSTOM_ENV_ODD")).toBe(value);
    expect(env.get("CUSTOM_ENV_CERT")).toBe("content");
    expect(env.get("FOO")).toBe("bar");
    expect(env.get("CUSTOM_ENV_CI_JOB_ID")).toBe(sample.job.id);
    expect([env.get("BUILD_FAILURE_EXIT_CODE"), env.get("SYSTEM_FAILURE_EXIT_CODE")]).toEqual(["1", "2"]);
    expect(readFileSync(join(stand.dir, "pwd"), "utf8").trim()).toBe(env.get("TMPDIR"));
    expect(env.get("CUSTOM_ENV_CI_JOB_SERVICES")).toBe(
      '[{"name":"redis:latest","alias":"","entrypoint":null,"command":null},{"name":"postgres:16","alias":"db","entrypoint":["/x"],"command":["-c","y"],"variables":{"POSTGRES_DB":"app"}}]',
    );
    expect(env.has("CUSTOM_ENV_HUGE")).toBe(false);
    expect(notes).toContain("as no environment holds it: HUGE. It is in JOB_RESPONSE_FILE");
    expect(readFileSync(join(stand.dir, "response"), "utf8")).toBe('{"id":1,"unknown":"kept"}');
    expect(existsSync(env.get("TMPDIR") ?? "")).toBe(false);
  });

  test("scripts have a name, a first line, and all three ways to be read", async () => {
    const run = stand.program(
      "run",
      `head -n 1 "$1" >>${join(stand.dir, "bangs")}; basename "$1" >>${join(stand.dir, "names")}\n"$1" && bash "$1" && bash <"$1"`,
    );
    await inJob({ run_exec: run }, async (environment) => {
      const { text } = await runOps(environment, source("echo here"));
      expect(text).toBe("here\nthe-proof\nhere\nthe-proof\nhere\n");
    });
    expect(new Set(readFileSync(join(stand.dir, "bangs"), "utf8").split("\n"))).toEqual(
      new Set(["#!/usr/bin/env bash", ""]),
    );
    expect(new Set(readFileSync(join(stand.dir, "names"), "utf8").split("\n"))).toEqual(new Set(["script", ""]));
  });
});

describe("programs that do not end", () => {
  test("prepare_exec and its child get SIGTERM, then SIGKILL, and the sentence says so", async () => {
    const prepare = stand.program(
      "prepare",
      `trap '' TERM; sh -c 'trap "" TERM; echo $$; while :; do sleep 0.05; done'`,
    );
    const started = performance.now();
    const { error, notes } = await refusal({ prepare_exec: prepare, prepare_exec_timeout: 1 });
    expect(error.message).toBe(
      `prepare_exec (${prepare}) took longer than 1 s (prepare_exec_timeout); it ignored SIGTERM for 1 s and was killed`,
    );
    expect(performance.now() - started).toBeLessThan(8000);
    const pid = /^\d+$/m.exec(notes)?.[0] ?? "";
    await expect.poll(() => isAlive(pid)).toBe(false);
  });

  test.each(["config", "prepare", "run"] as const)("a cancel ends %s_exec, and clean-up follows", async (which) => {
    const hang = `trap 'echo bye >&2; exit 1' TERM; echo reached >&2; while :; do sleep 0.05; done`;
    const program = stand.program(which, which === "run" ? `[ "$2" = build_script ] || exec bash "$1"\n${hang}` : hang);
    const cleanup = stand.program("cleanup", `echo x >>${join(stand.dir, "cleaned")}`);
    const executor = stand.open({ [`${which}_exec`]: program, cleanup_exec: cleanup });
    const stop = new AbortController();
    const sink = new Sink();
    const work = (async () => {
      const environment = await executor.prepare(sampleRequest(), sink, stop.signal);
      try {
        await environment.run(scriptOf(environment, source("true")), sink, stop.signal);
      } finally {
        await environment.destroy(never);
      }
    })();
    await sink.until(/reached/);
    stop.abort(new Stop("canceled", "canceled by somebody"));
    await expect(work).rejects.toThrow("canceled by somebody");
    expect(sink.text).toContain("bye");
    expect(readFileSync(join(stand.dir, "cleaned"), "utf8")).toBe("x\n");
    expect(readdirSync(stand.dir).filter((name) => name.startsWith("custom-job-"))).toEqual([]);
    await executor.close(never);
  });

  test("what a canceled program has left in its group is killed, and the trace says so", async () => {
    const prepare = stand.program(
      "prepare",
      `sh -c 'trap "" TERM; echo "left $$"; while :; do sleep 0.05; done' & while :; do sleep 0.05; done`,
    );
    const sink = new Sink();
    const executor = stand.open({ prepare_exec: prepare });
    const stop = new AbortController();
    const work = executor.prepare(sampleRequest(), sink, stop.signal);
    await sink.until(/left \d+/);
    stop.abort(new Stop("canceled", "canceled by somebody"));
    await expect(work).rejects.toThrow("canceled by somebody");
    expect(isAlive(/left (\d+)/.exec(sink.text)?.[1] ?? "")).toBe(false);
    expect(sink.text).toContain(
      `Stopped prepare_exec (${prepare}); what it had started ignored SIGTERM for 1 s and was killed`,
    );
    await executor.close(never);
  });

  test("a helper with a session of its own is the driver's, and no cancel waits for it", async () => {
    const prepare = stand.program(
      "prepare",
      `setsid sh -c 'trap "" TERM; echo "helper $$"; exec sleep 300' & while :; do sleep 0.05; done`,
    );
    const sink = new Sink();
    const executor = stand.open({ prepare_exec: prepare, graceful_kill_timeout: 60 });
    const stop = new AbortController();
    const work = executor.prepare(sampleRequest(), sink, stop.signal);
    await sink.until(/helper \d+/);
    const pid = /helper (\d+)/.exec(sink.text)?.[1] ?? "";
    try {
      stop.abort(new Stop("canceled", "canceled by somebody"));
      await expect(work).rejects.toThrow("canceled by somebody");
      expect(isAlive(pid)).toBe(true);
    } finally {
      process.kill(Number(pid), "SIGKILL");
    }
    await executor.close(never);
  });
});

describe("cleanup_exec", () => {
  test("runs again until it says that it is done, and what it says is in the runner's log", async () => {
    const count = join(stand.dir, "count");
    const cleanup = stand.program(
      "cleanup",
      `echo x >>${count}; echo out; echo err >&2; [ "$(wc -l <${count})" -ge 2 ]`,
    );
    await inJob({ cleanup_exec: cleanup }, async () => {});
    expect(readFileSync(count, "utf8")).toBe("x\nx\n");
    expect(stand.logged.join("\n")).toMatch(
      /the clean-up of a job has failed, and is tried again .*cleanup_exec .* ended with status 1/,
    );
    expect(stand.logged).toContain('cleanup_exec {"line":"out"}');
    expect(stand.logged).toContain('cleanup_exec {"line":"err"}');
  });

  test("that never succeeds is given up after three tries; its place is free again", async () => {
    const count = join(stand.dir, "count");
    const cleanup = stand.program("cleanup", `echo x >>${count}; exit 3`);
    await inJob({ cleanup_exec: cleanup }, async (environment) => expect(environment.projectSlot).toBe(0));
    expect(readFileSync(count, "utf8")).toBe("x\nx\nx\n");
    expect(stand.logged.join("\n")).toMatch(/what a job ran in may still be there.*ended with status 3/);
    await inJob({}, async (environment) => expect(environment.projectSlot).toBe(0));
  });

  test("that hangs ends with its time limit", async () => {
    const cleanup = stand.program("cleanup", "trap '' TERM; while :; do sleep 0.05; done");
    await inJob({ cleanup_exec: cleanup, cleanup_exec_timeout: 1 }, async () => {});
    expect(stand.logged.join("\n")).toMatch(
      /longer than 1 s in all \(cleanup_exec_timeout\); it ignored SIGTERM for 1 s and was killed/,
    );
  });

  test("of a runner that died runs with the same names, once, by whoever comes upon it", async () => {
    const seen = join(stand.dir, "seen");
    const cleanup = stand.program(
      "cleanup",
      `echo "$CUSTOM_ENV_CI_RUNNER_ID $CUSTOM_ENV_CI_CONCURRENT_PROJECT_ID $FOO $(cat "$JOB_RESPONSE_FILE")" >>${seen}; echo "has $CUSTOM_ENV_KEY" >&2`,
    );
    const config = stand.program("config", `echo '{"job_env": {"FOO": "bar"}}'`);
    const secret = { key: "KEY", value: "hush-hush", public: false, file: false, masked: true, raw: true };
    const dead = stand.open({ config_exec: config, cleanup_exec: cleanup });
    const sample = sampleRequest();
    await dead.prepare(
      { ...sample, job: { ...sample.job, payload: "{}" }, variablesAt: () => [secret] },
      new Sink(),
      never,
    );
    // The entry is gone, or broken: everything that the clean-up needs was kept on disk.
    const successor = stand.open({});
    const notes = JSON.parse(JSON.stringify(sample.notes));
    expect((await successor.recover(sample.jobKey, notes, never)).done).toContain(`ran cleanup_exec (${cleanup})`);
    expect(await successor.recover(sample.jobKey, notes, never)).toEqual({ done: [], left: [] });
    expect(readFileSync(seen, "utf8")).toBe("12 0 bar {}\n");
    expect(stand.logged).toContain('cleanup_exec {"line":"has [MASKED]"}');
  });
});

test("the number of a job whose runner died before it wrote a word is free again, and that of a living one is not", async () => {
  const files = (): string[] => readdirSync(stand.dir).filter((one) => one.startsWith("custom-job-"));
  await inJob({}, async () => {
    const [name = ""] = files();
    writeFileSync(join(stand.dir, name.replace(/0$/, "1")), "");
    await inJob({}, async ({ projectSlot }) => expect(projectSlot).toBe(2));
    await expect.poll(files).toEqual([name]);
    await inJob({}, async ({ projectSlot }) => expect(projectSlot).toBe(1));
  });
});

describe("the directory of a job that a restart of the machine took", () => {
  const made = (name: string, make: (path: string) => void): string => {
    const path = join(stand.dir, name);
    make(path);
    return path;
  };
  const chowned = (path: string): void => {
    mkdirSync(path);
    chownSync(path, 65534, 65534);
  };

  test("is made anew, only for the runner's account, and holds the job", async () => {
    const dir = join(stand.dir, "gone");
    for (let times = 0; times < 2; times++) await restoreDir(dir, "{}");
    expect(statSync(dir).mode & 0o777).toBe(0o700);
    expect(readFileSync(join(dir, "response.json"), "utf8")).toBe("{}");
  });

  test("is never another user's, nor where a link of that name leads: the job's token is in it", async () => {
    const other = made("aim", (path) => mkdirSync(path));
    const taken = [made("link", (path) => symlinkSync(other, path))];
    if (process.getuid?.() === 0) taken.push(made("theirs", chowned));
    for (const dir of taken) {
      await expect(restoreDir(dir, "{}")).rejects.toThrow(/is not a directory of the runner's account/);
      expect(readdirSync(dir)).toEqual([]);
    }
  });

  test.skipIf(process.getuid?.() !== 0)("is another one where somebody else has its name", async () => {
    const seen = join(stand.dir, "seen");
    const cleanup = stand.program("cleanup", `echo "$PWD $TMPDIR $(cat "$JOB_RESPONSE_FILE")" >${seen}`);
    const sample = sampleRequest();
    await stand
      .open({ cleanup_exec: cleanup })
      .prepare({ ...sample, job: { ...sample.job, payload: "{}" } }, new Sink(), never);
    const [name = ""] = readdirSync(stand.dir).filter((one) => one.startsWith("custom-job-"));
    const { dir } = z.object({ dir: z.string() }).parse(JSON.parse(readFileSync(join(stand.dir, name), "utf8")));
    rmSync(dir, { recursive: true });
    chowned(dir);
    try {
      const notes = JSON.parse(JSON.stringify(sample.notes));
      expect((await stand.open({}).recover(sample.jobKey, notes, never)).left).toEqual([]);
      expect(readdirSync(dir)).toEqual([]);
      expect(readFileSync(seen, "utf8")).toMatch(/^(\S+) \1 \{\}\n$/);
      expect(readFileSync(seen, "utf8")).not.toContain(dir);
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
});

describe("what goes wrong around a driver's programs", () => {
  test("config_exec may leave something running that holds its output", { timeout: 20_000 }, async () => {
    const pid = join(stand.dir, "pid");
    const config = stand.program("config", `sleep 300 & echo $! >${pid}; echo '{"hostname": "guest"}'`);
    try {
      await inJob({ config_exec: config }, async ({ host }) => expect(host).toBe("guest"));
    } finally {
      process.kill(Number(readFileSync(pid, "utf8")));
    }
  });

  test("run_exec may leave something running that holds its output: files are listed all the same", {
    timeout: 20_000,
  }, async () => {
    const pids = join(stand.dir, "pids");
    const run = stand.program("run", `bash "$1"; echo "after $2"; sleep 300 & echo $! >>${pids}`);
    try {
      await inJob({ run_exec: run }, async ({ workspace, enter }, notes) => {
        enter?.("upload_artifacts", false);
        const found = await workspace.list({ globs: ["*"], exclude: [], untracked: false }, never);
        expect(found.paths).toEqual([]);
        expect(notes.text).toContain("after upload_artifacts_on_success\n");
      });
    } finally {
      for (const pid of readFileSync(pids, "utf8").trim().split("\n")) process.kill(Number(pid));
    }
  });

  test("what a clean-up prints is cut after its secrets are hidden, and ends without a newline", async () => {
    const cleanup = stand.program(
      "cleanup",
      `head -c 995 /dev/zero | tr '\\0' x; sleep 0.1; echo "$CUSTOM_ENV_KEY"; printf 'the last word'`,
    );
    const secret = { key: "KEY", value: "hush-hush", public: false, file: false, masked: true, raw: true };
    await inJob({ cleanup_exec: cleanup }, async () => {}, { ...sampleRequest(), variablesAt: () => [secret] });
    expect(stand.logged.filter((line) => line.includes("hush"))).toEqual([]);
    expect(stand.logged).toContain('cleanup_exec {"line":"the last word"}');
  });

  test("a clean-up that nothing is known of any more is named, not forgotten", async () => {
    const sample = sampleRequest();
    const dead = stand.open({ cleanup_exec: stand.program("cleanup", "true") });
    await dead.prepare(sample, new Sink(), never);
    const [name = ""] = readdirSync(stand.dir).filter((one) => one.startsWith("custom-job-"));
    writeFileSync(join(stand.dir, name), '{"of": "another version"}');
    const notes = JSON.parse(JSON.stringify(sample.notes));
    const { done, left } = await stand.open({}).recover(sample.jobKey, notes, never);
    expect(done).toEqual([]);
    expect(left).toEqual([expect.stringMatching(/could not run its clean-up: .*custom-job-.* cannot be read/)]);
  });
});

describe("drivers that spoil what scripts print", () => {
  const list = async (run: string) =>
    await inJob({ run_exec: run }, async ({ workspace, enter }) => {
      enter?.("upload_artifacts", true);
      return await workspace.list({ globs: ["*"], exclude: [], untracked: false }, never);
    });

  test.each([
    [
      "words among the lines",
      `bash "$1" | sed 's/^ALLOY.*BEGIN$/&\\nhello from the driver/'`,
      /run_exec \(.*\) at stage upload_artifacts_on_failure mixes words of its own into what a script prints: "hello from the driver"/,
    ],
    ["a line that is lost", `bash "$1" | sed '/BEGIN$/{n;d}'`, /lost a part of what a script printed|mixes words/],
    ["an end that is lost", `bash "$1" | sed '/DONE$/d'`, /ended with status 0, and the script was not run to its end/],
    ["a script that is not run", "echo all is well", /ended with status 0, and the script was not run to its end/],
    ["another status than the script's", `bash "$1"; exit 1`, /ended with status 1 for a script that ends with 0/],
  ])("%s", async (_, text, message) => {
    const sound = `case $2 in prepare_script|cleanup_file_variables) exec bash "$1";; esac`;
    await expect(list(stand.program("run", `${sound}\n${text}`))).rejects.toThrow(message);
  });
});

const pwsh = pwshFolder();
test.skipIf(pwsh === null)(
  "a job in PowerShell: scripts end in .ps1, and files move through the sh beside it",
  async () => {
    const config = stand.program("config", `echo '{"shell": "pwsh"}'`);
    const run = stand.program(
      "run",
      `case $1 in *.ps1) exec pwsh -NoProfile -NonInteractive -File "$1";; *) exit 7;; esac`,
    );
    await inJob({ config_exec: config, run_exec: run }, async (environment) => {
      expect(environment.shell).toBe("pwsh");
      const { root } = environment.workspace;
      const { code, text } = await runOps(environment, [
        { op: "mkdir", path: root },
        { op: "cd", path: root },
        ...pwshSource("'in ' + (1 + 1); Set-Content -Path a.txt -Value 'of pwsh'"),
      ]);
      expect({ code, text }).toEqual({ code: 0, text: "in 2\n" });
      const { paths } = await environment.workspace.list({ globs: ["*.txt"], exclude: [], untracked: false }, never);
      expect(paths).toEqual(["a.txt"]);
      const { tar } = await environment.workspace.pack(paths, never);
      const chunks: Buffer[] = [];
      for await (const chunk of tar) chunks.push(chunk);
      expect(Buffer.concat(chunks).toString("latin1")).toContain("of pwsh");
    });
  },
  60_000,
);
