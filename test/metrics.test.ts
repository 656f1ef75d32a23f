import { execFile } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { connect } from "node:net";
import { networkInterfaces } from "node:os";
import { promisify } from "node:util";
import { afterEach, describe, expect, test } from "vitest";
import type { JobView } from "../src/board/contract.ts";
import type { QueuingLimit } from "../src/config/config.ts";
import type { JobProgress } from "../src/job/job.ts";
import { goDuration } from "../src/metrics/debug.ts";
import { createMetrics } from "../src/metrics/metrics.ts";
import { type MetricsServer, openMetricsServer, type ServedMetrics } from "../src/metrics/server.ts";
import { readListenAddress } from "../src/serving/address.ts";

let entries: ReturnType<ServedMetrics["entries"]> = [];
let jobs: readonly JobView[] = [];
let debugOpen = false;
const opened: MetricsServer[] = [];
afterEach(async () => {
  for (const server of opened.splice(0)) await server.close();
});

async function serve(address = "127.0.0.1:0", render = async () => "up 1\n") {
  const server = await openMetricsServer(address, {
    contentType: "text/plain; version=0.0.4",
    render,
    ready: () => true,
    entries: () => entries,
    debug: { jobs: () => jobs, state: () => "running", open: () => debugOpen },
  });
  opened.push(server);
  return server;
}

function portOf(server: Server): number {
  const address = server.address();
  return address === null || typeof address === "string" ? 0 : address.port;
}

describe("the metrics", () => {
  test("of executors are each entry's own, and go with it", async () => {
    const metrics = createMetrics({ version: "2.0.0" });
    const open = (id: string, idle: number) => {
      const entry = metrics.entry({ id, name: id, limit: 1 });
      entry.executor.gauge("machine_idle", "Machines that wait for a job.", [], () => [{ value: idle }]);
      const made = entry.executor.counter("machine_made_total", "Machines made.", ["how"]);
      return { entry, made };
    };
    const [a, b] = [open("aaaa", 2), open("bbbb", 5)];
    a.made({ how: "new" });
    b.made({ how: "new" });
    const series = async () =>
      (await metrics.render()).split("\n").filter((line) => line.startsWith("alloy_runner_machine"));
    const of = (id: string) => `runner="${id}",runner_name="${id}",system_id=""`;
    expect(metrics.figures("bbbb")).toEqual([{ about: "Machines that wait for a job.", name: "", value: 5 }]);
    expect(await series()).toEqual([
      `alloy_runner_machine_idle{${of("aaaa")}} 2`,
      `alloy_runner_machine_idle{${of("bbbb")}} 5`,
      `alloy_runner_machine_made_total{${of("aaaa")},how="new"} 1`,
      `alloy_runner_machine_made_total{${of("bbbb")},how="new"} 1`,
    ]);
    a.entry.close();
    expect(await series()).toEqual([
      `alloy_runner_machine_idle{${of("bbbb")}} 5`,
      `alloy_runner_machine_made_total{${of("bbbb")},how="new"} 1`,
    ]);
  });

  test("tell how long each stage took, by names that dashboards know, and what kept an entry from working", async () => {
    const metrics = createMetrics({ version: "2.0.0" });
    const entry = metrics.entry({ id: "7e3b05c2", name: "one", limit: 1, executor: "docker" });
    const job = entry.job({ queuedSeconds: undefined });
    job.moved({ at: "resolving" });
    expect(await metrics.render()).not.toContain("alloy_runner_job_start_seconds_count{");
    for (const attempt of [1, 2]) job.moved({ at: "preparing", attempt });
    for (const stage of ["get_sources", "build_script", 'mine"\n', "after_script"]) job.moved({ at: "running", stage });
    for (const stage of ["archive_cache", "upload_artifacts"]) job.moved({ at: "running", stage });
    for (const stage of ["archive_cache", "upload_artifacts", "cleanup_file_variables"])
      job.moved({ at: "running", stage, failed: true });
    job.moved({ at: "finished", outcome: { result: "failed", reason: "script_failure" } });
    entry.full();
    const text = await metrics.render();
    const archives = ["archive_cache", "archive_cache_on_failure"];
    const uploads = ["upload_artifacts_on_success", "upload_artifacts_on_failure", "cleanup_file_variables"];
    const scripts = ["get_sources", "step_script", "step", "after_script"];
    for (const stage of ["resolve_secrets", "prepare_executor", ...scripts, ...archives, ...uploads]) {
      expect(text).toContain(
        `gitlab_runner_job_stage_duration_seconds_count{runner="7e3b05c2",runner_name="one",system_id="",stage="${stage}"} 1`,
      );
    }
    expect(text).not.toContain("mine");
    expect(text).toContain('gitlab_runner_job_execution_mode_total{mode="traditional",executor="docker"} 1');
    for (const type of ["job_failure", "no_free_executor"]) {
      expect(text).toContain(`runner_name="one",system_id="",failure_type="${type}"} 1`);
    }
    expect(text).toContain('system_id="",state="idle",stage="idle",executor_stage="idle"} 0');
    entry.close();
    expect(await metrics.render()).not.toContain("gitlab_runner_job_stage_duration_seconds_count{");
  });

  test("tell nothing of the stages of a job that is not to be measured so", async () => {
    const metrics = createMetrics({ version: "2.0.0" });
    const job = metrics.entry({ id: "7e3b05c2", name: "one", limit: 1 }).job({ queuedSeconds: 1 }, { stages: false });
    job.moved({ at: "preparing", attempt: 1 });
    job.moved({ at: "running", stage: "build_script" });
    job.moved({ at: "finished", outcome: { result: "success" } });
    const text = await metrics.render();
    expect(text).not.toContain("gitlab_runner_job_stage_duration_seconds_count{");
    expect(text).toContain('gitlab_runner_job_duration_seconds_count{runner="7e3b05c2"');
  });

  test("tell how often inputs were put into jobs, and what was wrong with them", async () => {
    const metrics = createMetrics({ version: "2.0.0" });
    const series = async () => (await metrics.render()).match(/^gitlab_runner_job_inputs_.*$/gm);
    const failures = "gitlab_runner_job_inputs_interpolation_failures_total";
    expect(await series()).toEqual([
      "gitlab_runner_job_inputs_interpolations_total 0",
      `${failures}{error_type="parse"} 0`,
      `${failures}{error_type="evaluation"} 0`,
      `${failures}{error_type="sensitive_unsupported"} 0`,
    ]);
    const entry = metrics.entry({ id: "7e3b05c2", name: "one", limit: 1 });
    entry.job({ queuedSeconds: 1 });
    entry.job({ queuedSeconds: 1, filledInputs: { texts: 3 } });
    entry.job({ queuedSeconds: 1, filledInputs: { texts: 2, failure: "evaluation" } });
    entry.close();
    expect(await series()).toEqual([
      "gitlab_runner_job_inputs_interpolations_total 5",
      `${failures}{error_type="parse"} 0`,
      `${failures}{error_type="evaluation"} 1`,
      `${failures}{error_type="sensitive_unsupported"} 0`,
    ]);
  });

  test("tell of an entry's requests, and of the queue that the last job came from", async () => {
    const metrics = createMetrics({ version: "2.0.0" });
    const entry = metrics.entry({ id: "7e3b05c2", name: "one", limit: 1, requestConcurrency: 4 });
    entry.asking(1);
    entry.asking(-1);
    entry.refused();
    entry.crowded();
    const value = (text: string, name: string): number | undefined => {
      const found = new RegExp(`^${name}\\{runner="7e3b05c2",runner_name="one",system_id=""\\} (\\S+)$`, "m").exec(
        text,
      );
      return found === null ? undefined : Number(found[1]);
    };
    const before = await metrics.render();
    expect(value(before, "gitlab_runner_job_queue_size")).toBeUndefined();
    expect(value(before, "gitlab_runner_request_concurrency_used_limit")).toBe(1);
    entry.lanes(3);
    entry.job({ queuedSeconds: 1, queueSize: 12, queueDepth: 3 });
    entry.job({ queuedSeconds: 1, queueSize: 7, queueDepth: 0 });
    entry.job({ queuedSeconds: 1 });
    const text = await metrics.render();
    const shown = [
      "job_queue_size",
      "job_queue_depth",
      "request_concurrency_hard_limit",
      "request_concurrency_adaptive_limit",
      "request_concurrency_used_limit",
      "request_concurrency_exceeded_total",
      "worker_feeds_total",
      "worker_feed_failures_total",
    ].map((name) => [name, value(text, `gitlab_runner_${name}`)]);
    expect(Object.fromEntries(shown)).toEqual({
      job_queue_size: 7,
      job_queue_depth: 0,
      request_concurrency_hard_limit: 4,
      request_concurrency_adaptive_limit: 3,
      request_concurrency_used_limit: 3,
      request_concurrency_exceeded_total: 1,
      worker_feeds_total: 1,
      worker_feed_failures_total: 1,
    });
    entry.close();
    const after = await metrics.render();
    for (const [name] of shown) expect(value(after, `gitlab_runner_${name}`)).toBeUndefined();
  });

  test("count how concurrent changes", async () => {
    const metrics = createMetrics({ version: "2.0.0" });
    for (const concurrent of [4, 10, 7]) metrics.configLoaded({ concurrent, sound: [], broken: [] });
    const text = await metrics.render();
    expect(text).toContain('gitlab_runner_worker_slot_operations_total{operation="started"} 10');
    expect(text).toContain('gitlab_runner_worker_slot_operations_total{operation="stopped"} 3');
    expect(text).toContain("gitlab_runner_worker_slots_number 7");
  });

  test("say what each entry is about", async () => {
    const metrics = createMetrics({ version: "2.0.0" });
    metrics.observe({
      runners: () => [
        { id: "7e3b05c2", name: "one", activity: { at: "backing off", until: 0, problem: "http://secret" } },
      ],
    });
    const text = await metrics.render();
    expect(text).toContain(
      'alloy_runner_entry_state_info{runner="7e3b05c2",runner_name="one",system_id="",state="backing_off"} 1',
    );
    expect(text).not.toContain("secret");
  });

  test("of a job in progress name its state, and disappear with it", async () => {
    const metrics = createMetrics({ version: "2.0.0" });
    let jobs: { runner: string; progress: JobProgress }[] = [];
    metrics.observe({ jobs: () => jobs });
    const show = (...progress: JobProgress[]) => {
      jobs = progress.map((each) => ({ runner: "7e3b05c2", progress: each }));
    };
    const entry = metrics.entry({ id: "7e3b05c2", name: "one", limit: Number.POSITIVE_INFINITY });
    const first = entry.job({ queuedSeconds: 2, projectJobsRunning: "5+" });
    const second = entry.job({ queuedSeconds: undefined });
    show({ at: "received" }, { at: "received" });
    expect(await metrics.render()).toContain(
      'ci_runner_builds{runner="7e3b05c2",state="pending",stage="",executor_stage=""} 2',
    );
    show({ at: "preparing", attempt: 1 }, { at: "running", stage: "get_sources" });
    const text = await metrics.render();
    expect(text).toContain('state="running",stage="",executor_stage="prepare"} 1');
    expect(text).toContain(
      'ci_runner_builds{runner="7e3b05c2",state="running",stage="get_sources",executor_stage=""} 1',
    );
    expect(text).toContain(
      'gitlab_runner_job_queue_duration_seconds_count{runner="7e3b05c2",runner_name="one",system_id="",project_jobs_running="5+"} 1',
    );
    const [failed, passed] = [{ result: "failed", reason: "script_failure" }, { result: "success" }] as const;
    first.moved({ at: "finished", outcome: failed });
    second.moved({ at: "finished", outcome: passed });
    show({ at: "finished", outcome: failed }, { at: "delivering", outcome: passed });
    const ended = await metrics.render();
    expect(ended).toContain('ci_runner_builds{runner="7e3b05c2",state="finished",stage="",executor_stage=""} 1');
    expect(ended).toContain('system_id="",state="failed",stage="",executor_stage=""} 1');
    show({ at: "running", stage: "build_script" });
    expect(await metrics.render()).toContain(
      'ci_runner_builds{runner="7e3b05c2",state="running",stage="build_script",executor_stage=""} 1',
    );
    expect(await metrics.render()).toContain('system_id="",state="running",stage="step_script",executor_stage=""} 1');
    show();
    const after = await metrics.render();
    expect(after).not.toContain("ci_runner_builds{");
    expect(after).toContain('ci_runner_failed_jobs_total{runner="7e3b05c2",failure_reason="script_failure"} 1');
    expect(after).toContain('gitlab_runner_jobs_total{runner="7e3b05c2",runner_name="one",system_id=""} 2');
  });

  test("of stages that a job's author named share one label", async () => {
    const metrics = createMetrics({ version: "2.0.0" });
    metrics.observe({ jobs: () => [{ runner: "a", progress: { at: "running", stage: 'step_"mine"\n' } }] });
    expect(await metrics.render()).toContain('stage="step"');
  });

  test("have the labels that dashboards of GitLab Runner ask for", async () => {
    const metrics = createMetrics({ version: "2.0.0" });
    const entry = metrics.entry({ id: "7e3b05c2", name: "one", limit: 3 });
    const request = { endpoint: "jobs/:id/trace", method: "PATCH", durationMs: 12 };
    entry.request({ ...request, status: 502, again: false });
    const unprepared = entry.job({ queuedSeconds: 1 });
    unprepared.moved({ at: "finished", outcome: { result: "failed", reason: "runner_system_failure" } });
    const R = 'runner="7e3b05c2",runner_name="one",system_id=""';
    const retried = `gitlab_runner_api_request_retries_total{${R},path="patch_trace",method="patch"}`;
    expect(await metrics.render()).toContain(`${retried} 0\n`);
    entry.request({ ...request, status: 202, again: true });
    const job = entry.job({ queuedSeconds: 1, projectJobsRunning: "5+" });
    job.moved({ at: "running", stage: "build_script" });
    job.moved({ at: "finished", outcome: { result: "failed", reason: "script_failure" } });
    const text = await metrics.render();
    for (const line of [
      `${retried} 1`,
      `gitlab_runner_api_request_statuses_total{${R},endpoint="patch_trace",status="502",method="patch"} 1`,
      `gitlab_runner_failed_jobs_total{${R},failure_reason="runner_system_failure",mode="unknown"} 1`,
      `gitlab_runner_failed_jobs_total{${R},failure_reason="script_failure",mode="traditional"} 1`,
      `gitlab_runner_job_duration_seconds_count{${R},mode="traditional"} 1`,
      `gitlab_runner_job_queue_duration_seconds_count{${R},project_jobs_running="5+"} 1`,
      `gitlab_runner_job_queue_duration_seconds_count{${R},project_jobs_running=""} 1`,
    ]) {
      expect(text).toContain(`${line}\n`);
    }
  });

  test("count jobs that waited for longer than is acceptable now, by the last limit that holds now", async () => {
    const metrics = createMetrics({ version: "2.0.0" });
    const limit = (more: Partial<QueuingLimit>): QueuingLimit => {
      return { periods: [() => true], thresholdSeconds: 60, runningForProject: null, ...more };
    };
    const counted = async (queuingLimits: readonly QueuingLimit[], jobs: readonly (readonly [number, string?])[]) => {
      const entry = metrics.entry({ id: "7e3b05c2", name: "one", limit: 3, queuingLimits });
      for (const [queuedSeconds, projectJobsRunning] of jobs) entry.job({ queuedSeconds, projectJobsRunning });
      const found = /^gitlab_runner_acceptable_job_queuing_duration_exceeded_total\{.*\} (\d+)$/m.exec(
        await metrics.render(),
      );
      entry.close();
      return found?.[1];
    };
    expect(await counted([], [])).toBeUndefined();
    expect(await counted([], [[1e6]])).toBe("0");
    expect(await counted([limit({})], [[60], [61], [3600]])).toBe("2");
    expect(await counted([limit({}), limit({ thresholdSeconds: 0 })], [[3600]])).toBe("0");
    expect(await counted([limit({}), limit({ thresholdSeconds: 0, periods: [() => false] })], [[3600]])).toBe("1");
    const few = limit({ runningForProject: /^[0-4]$/ });
    expect(await counted([few], [[90, "3"], [90, "5+"], [90]])).toBe("1");
  });

  test("of a removed entry disappear, unless another entry has its token", async () => {
    const metrics = createMetrics({ version: "2.0.0" });
    const use = () => {
      const entry = metrics.entry({ id: "7e3b05c2", name: "one", limit: 3 });
      for (const status of [204, 0]) {
        entry.request({ endpoint: "jobs/request", method: "POST", status, durationMs: 12, again: false });
      }
      entry.refused();
      const job = entry.job({ queuedSeconds: 1 });
      job.traced(17);
      job.moved({ at: "running", stage: "build_script" });
      job.moved({ at: "finished", outcome: { result: "failed", reason: "runner_system_failure" } });
      return entry;
    };
    const first = use();
    const second = use();
    expect(await metrics.render()).toContain(
      'alloy_runner_trace_bytes_total{runner="7e3b05c2",runner_name="one",system_id=""} 34',
    );
    first.close();
    first.close();
    expect(await metrics.render()).toContain("7e3b05c2");
    second.close();
    expect(await metrics.render()).not.toContain("7e3b05c2");
  });

  test("of the process are looked up when asked for", async () => {
    const text = await createMetrics({ version: "2.0.0" }).render();
    for (const name of ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds"]) {
      expect(text).toMatch(new RegExp(`^${name} [1-9]|^${name} 0\\.\\d`, "m"));
    }
    if (process.platform === "linux") {
      expect(text).toMatch(/^process_open_fds [1-9]/m);
      expect(text).toMatch(/^process_max_fds [1-9]/m);
      expect(text).toMatch(/^process_virtual_memory_bytes [1-9]/m);
    }
    expect(text).toContain('ci_runner_version_info{name="alloy-runner",version="2.0.0"');
  });

  test("name platform and architecture as Go does, and dashboards with it", async () => {
    const text = await createMetrics({ version: "2.0.0" }).render();
    for (const name of ["ci_runner_version_info", "gitlab_runner_version_info"]) {
      const [, runtime, os = "", architecture = ""] =
        new RegExp(`^${name}\\{.*runtime="([^"]*)".*os="([^"]*)",architecture="([^"]*)"\\} 1$`, "m").exec(text) ?? [];
      expect(runtime).toBe(`node ${process.versions.node}`);
      expect(["linux", "darwin", "windows", "freebsd"]).toContain(os);
      expect(["amd64", "arm64", "386", "arm", "ppc64le", "s390x", "riscv64"]).toContain(architecture);
    }
  });

  test("of log, configuration, outbox and process state follow what happens", async () => {
    const metrics = createMetrics({ version: "2.0.0" });
    expect(await metrics.render()).not.toMatch(/^alloy_runner_outbox_entries/m);
    metrics.observe({ outbox: () => ({ entries: 3, oldestAgeSeconds: 9.5, bytes: 77 }) });
    metrics.observe({ stateFreeBytes: async () => 12 });
    let durable: boolean | undefined;
    metrics.observe({ durable: () => durable });
    expect(await metrics.render()).not.toMatch(/^alloy_runner_durable/m);
    durable = false;
    metrics.logged("warn");
    metrics.logged("info");
    metrics.configLoaded({ concurrent: 4, sound: [], broken: [] });
    metrics.configRefused();
    metrics.processState("graceful-shutdown");
    const text = await metrics.render();
    for (const line of [
      "alloy_runner_outbox_entries 3",
      "alloy_runner_outbox_oldest_age_seconds 9.5",
      "alloy_runner_outbox_bytes 77",
      "alloy_runner_state_free_bytes 12",
      "alloy_runner_durable 0",
      'ci_runner_errors{level="warning"} 1',
      'gitlab_runner_errors_total{level="error"} 0',
      "gitlab_runner_concurrent 4",
      "gitlab_runner_configuration_loaded_total 1",
      "gitlab_runner_configuration_loading_error_total 1",
      'gitlab_runner_process_state_info{state="graceful-shutdown"} 1',
    ]) {
      expect(text).toContain(`${line}\n`);
    }
    expect(text).not.toContain('state="starting"');
  });
});

describe("the metrics address", () => {
  test.each([
    [":9000", undefined, 9000],
    ["localhost", "localhost", 9252],
    ["10.0.0.1:80", "10.0.0.1", 80],
    ["[::1]:9252", "::1", 9252],
    ["[fe80::1%eth0]", "fe80::1%eth0", 9252],
    ["metrics.example.org:1", "metrics.example.org", 1],
  ])("%s is understood", (text, host, port) => {
    expect(readListenAddress(text, 9252)).toEqual({ host, port });
  });

  test.each([":", "host:", "a:b", "::1", "host:99999", "http://host:1", "host:1/x", "[::1", "a b"])(
    "%j is refused with what was expected",
    async (text) => {
      await expect(serve(text)).rejects.toThrow(/metrics address .* expected ":port"/);
    },
  );

  test("in use is an error that names it", async () => {
    const other = createServer().listen(0, "127.0.0.1");
    await once(other, "listening");
    const port = portOf(other);
    await expect(serve(`127.0.0.1:${port}`)).rejects.toThrow(new RegExp(`127\\.0\\.0\\.1:${port}.*EADDRINUSE`));
    other.close();
  });
});

describe("the metrics server", () => {
  test("knows three paths, GET and HEAD, and nothing else", async () => {
    const { url } = await serve();
    const get = await fetch(`${url}/metrics?x=1`);
    expect([get.status, get.headers.get("content-type"), await get.text()]).toEqual([
      200,
      "text/plain; version=0.0.4",
      "up 1\n",
    ]);
    const head = await fetch(`${url}/metrics`, { method: "HEAD" });
    expect([head.status, head.headers.get("content-length"), await head.text()]).toEqual([200, "5", ""]);
    expect((await fetch(`${url}/health`)).status).toBe(200);
    expect((await fetch(`${url}/health/ready`)).status).toBe(200);
    expect(await (await fetch(`${url}/healthz`)).text()).toBe("alive\n");
    entries = [
      { name: "one", able: true, reason: "limit of 4 reached" },
      { name: "two\n", able: false, reason: "paused" },
    ];
    const ready = await fetch(`${url}/readyz`);
    expect(ready.status).toBe(200);
    expect(await ready.text()).toBe("ready: 1 of 2 entries take jobs\n+ one: limit of 4 reached\n- two?: paused\n");
    entries = entries.slice(1);
    const not = await fetch(`${url}/readyz`);
    expect(not.status).toBe(503);
    expect(await not.text()).toBe("not ready: no entry takes jobs\n- two?: paused\n");
    for (const path of ["/", "/debug/jobs", "/debug/pprof/", "/metrics/", "//metrics"]) {
      expect((await fetch(url + path)).status, path).toBe(404);
    }
    for (const method of ["POST", "PUT", "DELETE", "OPTIONS"]) {
      const refused = await fetch(`${url}/metrics`, { method });
      expect([refused.status, refused.headers.get("allow")], method).toEqual([405, "GET, HEAD"]);
    }
  });

  test("tells programs of its own account what GitLab Runner tells of jobs and of itself, others only where they may know", async () => {
    const job = {
      title: "t",
      runner: "7e3b05c2",
      runnerName: "one",
      traceBytes: 0,
      stages: [],
      receivedAt: 0,
      since: 63_200,
    };
    const failed = { result: "failed", reason: "job_execution_timeout" } as const;
    jobs = [
      {
        ...job,
        id: "7",
        number: 1,
        page: "https://g.example.com/a/b/-/jobs/7",
        progress: { at: "finished", outcome: failed },
      },
      { ...job, id: "8", number: 2, page: "", progress: { at: "running", stage: "build_script" } },
    ];
    const [loopback, everywhere] = [await serve(), await serve("0.0.0.0:0")];
    const list = await fetch(`${loopback.url}/debug/jobs/list`);
    expect([list.status, list.headers.get("x-list-version")]).toEqual([200, "2"]);
    const [first, second] = (await list.text()).split("\n");
    expect(first).toBe(
      "url=https://g.example.com/a/b/-/jobs/7 state=timedout stage= executor_stage= duration=1m3.2s id=7",
    );
    expect(second).toMatch(/^url= state=running stage=step_script executor_stage= duration=\d+h\d+m[\d.]+s id=8$/);
    expect(await (await fetch(`${loopback.url}/debug/process/state`)).text()).toBe("running\n");
    const port = new URL(everywhere.url).port;
    const { url: both } = await serve(":0");
    expect((await fetch(`http://127.0.0.1:${new URL(both).port}/debug/process/state`)).status).toBe(200);
    const outside = Object.values(networkInterfaces()).flatMap((all = []) =>
      all.flatMap(({ family, internal, address }) => (family === "IPv4" && !internal ? [address] : [])),
    );
    for (const address of outside.slice(0, 1)) {
      const ask = async () => (await fetch(`http://${address}:${port}/debug/jobs/list`)).status;
      expect(await ask()).toBe(403);
      debugOpen = true;
      expect(await ask()).toBe(200);
      debugOpen = false;
    }
  });

  test.skipIf(process.getuid?.() !== 0)(
    "tells programs of other accounts nothing of that, also those of this machine: needs root to be one",
    async () => {
      jobs = [];
      const { url } = await serve(":0");
      const { port } = new URL(url);
      const ask = async (host: string, uid: number): Promise<string> => {
        const args = ["-s", "-o", "/dev/null", "-w", "%{http_code}", `http://${host}:${port}/debug/jobs/list`];
        return (await promisify(execFile)("curl", args, { uid, cwd: "/" })).stdout;
      };
      const hosts = ["127.0.0.1", "127.0.0.2", "[::ffff:127.0.0.1]"];
      if (existsSync("/proc/net/if_inet6") && readFileSync("/proc/net/if_inet6", "utf8").includes(" lo\n"))
        hosts.push("[::1]");
      for (const host of hosts) {
        expect([host, await ask(host, 0), await ask(host, 65_534)]).toEqual([host, "200", "403"]);
        debugOpen = true;
        expect(await ask(host, 65_534)).toBe("200");
        debugOpen = false;
      }
    },
  );

  test.each([
    [0, "0s"],
    [500, "500ms"],
    [1000, "1s"],
    [59_999, "59.999s"],
    [60_000, "1m0s"],
    [3_605_500, "1h0m5.5s"],
  ])("writes %i ms as Go does", (ms, text) => {
    expect(goDuration(ms)).toBe(text);
  });

  test("answers while a hundred strangers hold connections and say nothing", async () => {
    const { url } = await serve();
    const port = Number(new URL(url).port);
    const strangers = await Promise.all(
      Array.from({ length: 100 }, async () => {
        const socket = connect(port, "127.0.0.1");
        socket.on("error", () => {});
        await once(socket, "connect");
        return socket;
      }),
    );
    expect(await (await fetch(`${url}/metrics`)).text()).toBe("up 1\n");
    for (const socket of strangers) socket.destroy();
  });

  test.runIf(process.platform === "linux")("lets strangers push out only strangers of their own address", async () => {
    const { url } = await serve();
    const port = Number(new URL(url).port);
    const opened = async (localAddress: string) => {
      const socket = connect({ port, host: "127.0.0.1", localAddress });
      socket.on("error", () => {});
      await once(socket, "connect");
      return socket;
    };
    const slow = await opened("127.0.0.2");
    const strangers = await Promise.all(Array.from({ length: 600 }, () => opened("127.0.0.1")));
    // The server closes the oldest connections, one after the other.
    while (strangers.filter((one) => one.closed).length < 300) await new Promise((resolve) => setImmediate(resolve));
    let answer = "";
    slow.on("data", (text) => {
      answer += String(text);
    });
    slow.write("GET /health HTTP/1.1\r\n\r\n");
    await once(slow, "close");
    expect(answer).toMatch(/^HTTP\/1\.1 200 OK\r\n[\s\S]*alive\n$/);
    for (const socket of strangers) socket.destroy();
  });

  test("renders once for all who ask at the same time", async () => {
    let renders = 0;
    let finish = (): void => {};
    const gate = new Promise<void>((resolve) => {
      finish = resolve;
    });
    const { url } = await serve("127.0.0.1:0", async () => {
      renders++;
      await gate;
      return "x 1\n";
    });
    const answers = Array.from({ length: 10 }, async () => (await fetch(`${url}/metrics`)).text());
    while (renders === 0) await new Promise((resolve) => setImmediate(resolve));
    await fetch(`${url}/health`);
    finish();
    await Promise.all(answers);
    expect(renders).toBeLessThanOrEqual(3);
  });

  test("tells of a failed look without ending the process", async () => {
    const { url } = await serve("127.0.0.1:0", async () => {
      throw new Error("no metrics");
    });
    const response = await fetch(`${url}/metrics`);
    expect([response.status, await response.text()]).toEqual([500, "no metrics\n"]);
  });

  test("moves to another address, and stays where it is when that one is busy", async () => {
    const server = await serve();
    const before = server.url;
    const other = createServer().listen(0, "127.0.0.1");
    await once(other, "listening");
    const port = portOf(other);
    await expect(server.move(`127.0.0.1:${port}`)).rejects.toThrow(/EADDRINUSE/);
    await expect(server.move("nonsense:")).rejects.toThrow(/metrics address/);
    expect((await fetch(`${before}/health`)).status).toBe(200);
    await new Promise((resolve) => other.close(resolve));
    await server.move(`127.0.0.1:${port}`);
    expect(server.url).toBe(`http://127.0.0.1:${port}`);
    expect((await fetch(`${server.url}/health`)).status).toBe(200);
    await expect(fetch(`${before}/health`)).rejects.toThrow();
    await server.move(`localhost:${port}`);
    expect((await fetch(`http://localhost:${port}/health`)).status).toBe(200);
    await server.move("");
    await expect(fetch(`http://localhost:${port}/health`)).rejects.toThrow();
  });
});
