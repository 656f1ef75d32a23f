import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import {
  type CoordinatorOptions,
  type LocalCoordinator,
  startCoordinator,
} from "../../src/local/coordinator/coordinator.ts";
import type { JobSpec, LocalJob } from "../../src/local/coordinator/jobs/job.ts";
import { type HandlingOptions, openHandling } from "../job/handling.ts";

async function setUp(options: CoordinatorOptions, more: Partial<HandlingOptions> = {}) {
  const local = await startCoordinator(options);
  onTestFinished(() => local.close());
  const { token } = local.addRunner();
  const handling = await openHandling({ url: local.url, token, ...more });
  onTestFinished(() => handling.close());
  return { local, handling };
}

type SetUp = Awaited<ReturnType<typeof setUp>>;

async function run({ local, handling }: SetUp, spec: JobSpec) {
  const job = local.enqueue(spec);
  const { outcome, delivered } = await handling.handle(await handling.receive());
  await delivered;
  expect(readdirSync(handling.stateDir.scratchDir).filter((name) => !name.startsWith("pipe-"))).toEqual([]);
  return { job, outcome, trace: job.trace.replace(/\x1b\[[0-9;]*[mK]/g, "") };
}

/** The names in a zip file, as unzip lists them. */
async function listed(local: LocalCoordinator, bytes: Buffer): Promise<string[]> {
  const dir = mkdtempSync(join(tmpdir(), "alloy-listed-"));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  expect(local.url).not.toBe("");
  const file = join(dir, "a.zip");
  writeFileSync(file, bytes);
  execFileSync("unzip", ["-tq", file]);
  return execFileSync("unzip", ["-Z1", file], { encoding: "utf8" }).trim().split("\n");
}

for (const dialect of ["alloy", "gitlab"] as const) {
  test(`${dialect}: what one job made is there for the next`, async () => {
    const both = await setUp({ dialect });
    const first = await run(both, {
      name: "build",
      script: [
        "mkdir -p out/bin",
        "echo text > out/a.txt",
        "seq 1 100000 > out/big",
        "touch -d 2001-01-01 out/big",
      ].concat([
        "printf '#!/bin/sh\\necho runs\\n' > out/bin/tool; chmod 750 out/bin/tool; ln -s a.txt out/link; echo no > out/skip.log",
      ]),
      artifacts: { paths: ["out/"], exclude: ["out/**/*.log"], name: "$CI_JOB_NAME-files" },
    });
    expect(first.outcome, first.trace).toEqual({ result: "success" });
    const [artifact] = first.job.artifacts;
    expect(artifact?.filename).toBe("build-files.zip");
    const names = await listed(both.local, (await artifact?.read()) ?? Buffer.alloc(0));
    const excluded = dialect === "gitlab" ? [] : ["out/skip.log"]; // AlloyCI does not know exclude
    expect(names.filter((name) => name !== "out/skip.log")).toEqual([
      "out/",
      "out/a.txt",
      "out/big",
      "out/bin/",
      "out/bin/tool",
      "out/link",
    ]);
    if (excluded.length === 0) expect(names).not.toContain("out/skip.log");
    const second = await run(both, {
      name: "test",
      projectId: 77,
      projectName: "elsewhere",
      dependencies: [first.job],
      script: ["test $(out/bin/tool) = runs", "test $(cat out/link) = text", "stat -c '%a %Y %s' out/big"],
    });
    expect(second.outcome, second.trace).toEqual({ result: "success" });
    expect(second.trace).toMatch(/Downloading artifacts of build \(\d+\)/);
    expect(second.trace).toMatch(/\d+ 978307200 588895/);
  });

  test(`${dialect}: nothing that matches is a warning, and nothing is uploaded`, async () => {
    const both = await setUp({ dialect });
    const { outcome, trace, job } = await run(both, { script: ["true"], artifacts: { paths: ["nothing/*", "../up"] } });
    expect(outcome).toEqual({ result: "success" });
    expect(job.artifacts).toEqual([]);
    expect(trace).toContain("nothing/*: no matching files");
    expect(trace).toContain("../up is outside of the project");
    expect(trace).toContain("There are no files to upload");
  });

  test(`${dialect}: artifacts of a failed job follow "when"`, async () => {
    const both = await setUp({ dialect });
    for (const [when, uploaded] of [
      ["on_success", 0],
      ["on_failure", 1],
      ["always", 1],
    ] as const) {
      const { outcome, job } = await run(both, {
        script: ["echo x > log.txt", "exit 4"],
        artifacts: { paths: ["*.txt"], when },
      });
      expect(outcome).toMatchObject({ result: "failed", exitCode: 4 });
      expect(job.artifacts, when).toHaveLength(uploaded);
    }
    const good = await run(both, { script: ["echo x > log.txt"], artifacts: { paths: ["*.txt"], when: "on_failure" } });
    expect(good.job.artifacts).toEqual([]);
  });

  test(`${dialect}: a failing upload is tried again with the same file, and fails the job in the end`, async () => {
    const both = await setUp({ dialect });
    const spec = { script: ["seq 1 1000 > f"], artifacts: { paths: ["f"] } };
    both.local.intercept = ({ endpoint, count }) =>
      endpoint === "upload" && count < 3 ? { kind: "status", status: 500 } : undefined;
    const good = await run(both, spec);
    expect(good.outcome, good.trace).toEqual({ result: "success" });
    expect(good.job.artifacts).toHaveLength(1);
    both.local.intercept = ({ endpoint }) => (endpoint === "upload" ? { kind: "status", status: 500 } : undefined);
    const bad = await run(both, spec);
    expect(bad.outcome).toMatchObject({ result: "failed", reason: "runner_system_failure" });
    expect(bad.trace).toMatch(/Cannot upload artifacts/);
  });

  test(`${dialect}: 413 is said as what it is, and not tried again`, async () => {
    const both = await setUp({ dialect, bodyLimitBytes: 100_000 });
    let uploads = 0;
    both.local.intercept = ({ endpoint }) => {
      if (endpoint === "upload") uploads++;
      return undefined;
    };
    const { outcome, trace } = await run(both, {
      script: ["head -c 3000000 /dev/urandom > f"],
      artifacts: { paths: ["f"] },
    });
    expect(outcome).toMatchObject({ result: "failed", reason: "script_failure" });
    expect(trace).toContain("too large");
    expect(uploads).toBeLessThanOrEqual(2);
  });

  test(`${dialect}: dependencies that are gone fail the job and are named`, async () => {
    const both = await setUp({ dialect });
    const first = await run(both, { name: "maker", script: ["echo x > f"], artifacts: { paths: ["f"] } });
    both.local.intercept = ({ endpoint }) => (endpoint === "download" ? { kind: "status", status: 404 } : undefined);
    const { outcome, trace } = await run(both, { script: ["echo NEVER"], dependencies: [first.job] });
    expect(outcome).toMatchObject({ result: "failed", reason: "runner_system_failure" });
    expect(trace).toMatch(/artifacts of maker \(\d+\) are not there/);
    expect(trace).not.toMatch(/^NEVER/m);
    let asked = 0;
    both.local.intercept = ({ endpoint }) => {
      if (endpoint !== "download") return undefined;
      asked++;
      return { kind: "status", status: 500 };
    };
    const broken = await run(both, { script: ["echo NEVER"], dependencies: [first.job] });
    expect(broken.trace).toMatch(/artifacts of maker \(\d+\) are unavailable/);
    expect(asked).toBe(3);
    for (const [wanted, tries] of [
      ["2", 3],
      ["4", 4],
    ] as const) {
      asked = 0;
      const variables = [{ key: "ARTIFACT_DOWNLOAD_ATTEMPTS", value: wanted }];
      await run(both, { script: ["echo NEVER"], dependencies: [first.job], variables });
      expect(asked, `ARTIFACT_DOWNLOAD_ATTEMPTS=${wanted}`).toBe(tries);
    }
    both.local.intercept = ({ endpoint, count }) =>
      endpoint === "download" && count === 7 ? { kind: "truncate", bytes: 50 } : undefined;
  });

  test(`${dialect}: a download that is cut is tried again`, async () => {
    const both = await setUp({ dialect });
    const first = await run(both, { name: "maker", script: ["seq 1 5000 > f"], artifacts: { paths: ["f"] } });
    both.local.intercept = ({ endpoint, count }) =>
      endpoint === "download" && count === 1 ? { kind: "truncate", bytes: 50 } : undefined;
    const { outcome, trace } = await run(both, { script: ["test -s f"], dependencies: [first.job] });
    expect(outcome, trace).toEqual({ result: "success" });
    expect(trace).toContain("Trying again");
  });
}

test("a download that leads to another host takes no token there", async () => {
  const both = await setUp({ dialect: "gitlab" });
  const first = await run(both, { name: "maker", script: ["seq 1 5000 > f"], artifacts: { paths: ["f"] } });
  const bytes = await first.job.artifacts[0]?.read();
  const seen: string[] = [];
  const storage = createServer((request, response) => {
    seen.push(`${request.url} ${JSON.stringify(request.headers)}`);
    response.end(bytes);
  });
  await new Promise<void>((resolve) => storage.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void storage.close());
  const address = storage.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  const asked: string[] = [];
  both.local.intercept = ({ endpoint, path }) => {
    if (endpoint !== "download") return undefined;
    asked.push(path);
    return { kind: "status", status: 302, headers: { location: `http://127.0.0.1:${port}/object?signature=abc` } };
  };
  const { outcome, trace } = await run(both, { script: ["test -s f"], dependencies: [first.job] });
  expect(outcome, trace).toEqual({ result: "success" });
  expect(asked).toEqual([expect.stringContaining("direct_download=true")]);
  expect(seen).toHaveLength(1);
  expect(seen[0]).toContain("/object?signature=abc");
  expect(seen[0]).not.toContain(first.job.token);
  expect(seen[0]).not.toMatch(/job-token/i);
  for (const address of ["169.254.169.254", "[::ffff:169.254.169.254]", "[fe80::1]", "0xA9.254.43518"]) {
    both.local.intercept = ({ endpoint }) =>
      endpoint === "download"
        ? { kind: "status", status: 302, headers: { location: `http://${address}/x` } }
        : undefined;
    const refused = await run(both, { script: ["true"], dependencies: [first.job] });
    expect(refused.trace).toContain("a link-local address");
  }
});

test("many dependencies come to their places in their order, and none after one that is damaged", async () => {
  const both = await setUp({ dialect: "gitlab" });
  const made: LocalJob[] = [];
  for (const index of [0, 1, 2, 3, 4]) {
    // The first archive takes longest.
    const script = [
      `rm -rf d; mkdir d; seq ${index} ${index === 0 ? 400_000 : 100} > d/shared`,
      `echo ${index} > d/own-${index}`,
    ];
    const { job, outcome, trace } = await run(both, { name: `made-${index}`, script, artifacts: { paths: ["d/"] } });
    expect(outcome, trace).toEqual({ result: "success" });
    expect(job.artifacts, trace).toHaveLength(1);
    made.push(job);
  }
  const good = await run(both, {
    script: ["head -1 d/shared", "echo have: d/own-*"],
    dependencies: made,
    projectName: "next",
    projectId: 77,
  });
  expect(good.outcome, good.trace).toEqual({ result: "success" });
  expect(good.trace).toMatch(/^4\n/m);
  expect(good.trace).toContain("have: d/own-0 d/own-1 d/own-2 d/own-3 d/own-4");
  expect([...good.trace.matchAll(/^Unpacked .* of made-(\d)/gm)].map(([, index]) => index)).toEqual([..."01234"]);

  both.local.intercept = ({ endpoint, path }) =>
    endpoint === "download" && path.includes(`/jobs/${made[2]?.id}/`)
      ? { kind: "status", status: 200, body: "this is no zip file, but long enough to be looked at as one" }
      : undefined;
  const script = ["echo NEVER"];
  const bad = await run(both, { script, dependencies: made, projectName: "new", projectId: 78 });
  expect(bad.outcome?.result).toBe("failed");
  expect(bad.trace).toContain("The artifacts of made-2");
  expect(bad.trace).not.toContain("NEVER");
  expect([...bad.trace.matchAll(/^Unpacked .* of made-(\d)/gm)].map(([, index]) => index)).toEqual(["0", "1"]);
  // The working copy shows that everything before the damaged archive arrived, and nothing after it.
  const after = await run(both, { script: ["echo have: d/own-*"], projectName: "new", projectId: 78 });
  expect(after.trace).toMatch(/^have: d\/own-0 d\/own-1$/m);
});

test("GitLab: several entries are uploaded once each, in their formats", async () => {
  const both = await setUp({ dialect: "gitlab" });
  const { outcome, job, trace } = await run(both, {
    script: ["mkdir out", "echo one > out/a", "echo two > out/b", "echo '{}' > report.json"],
    artifacts: [
      { paths: ["out/"], name: "files", artifact_type: "archive", artifact_format: "zip" },
      { paths: ["out/*"], name: "junit.xml", artifact_type: "junit", artifact_format: "gzip", when: "always" },
      { paths: ["report.json"], name: "report.json", artifact_type: "sast", artifact_format: "raw" },
    ],
  });
  expect(outcome, trace).toEqual({ result: "success" });
  const of = async (type: string) => job.artifacts.find((one) => one.type === type);
  expect(job.artifacts.map(({ filename }) => filename)).toEqual(["files.zip", "junit.xml.gz", "report.json"]);
  expect((await (await of("sast"))?.read())?.toString()).toBe("{}\n");
  const gzip = (await (await of("junit"))?.read()) ?? Buffer.alloc(0);
  expect(execFileSync("gzip", ["-dc"], { input: gzip }).toString()).toBe("one\ntwo\n");
});

test("untracked files are artifacts, ignored ones and odd names among them", async () => {
  const both = await setUp({ dialect: "gitlab" });
  const { outcome, job, trace } = await run(both, {
    script: [
      "git init -q .; echo t > tracked; git add tracked; echo '*.o' > .gitignore; echo x > a.o; echo y > 'zwei wörter'; printf x > $'new\\nline'",
    ],
    artifacts: { untracked: true, name: "u" },
  });
  expect(outcome, trace).toEqual({ result: "success" });
  const names = await listed(both.local, (await job.artifacts[0]?.read()) ?? Buffer.alloc(0));
  expect(names.join("|")).toContain("a.o");
  expect(names).toContain("zwei wörter");
  expect(names).not.toContain("tracked");
});

test("artifacts that are wanted of a canceled job are uploaded", async () => {
  const both = await setUp({ dialect: "gitlab" });
  const job = both.local.enqueue({
    script: ["echo x > f; echo ready; sleep 600"],
    artifacts: { paths: ["f"], when: "always" },
  });
  const handled = both.handling.handle(await both.handling.receive());
  await job.traceContains("ready");
  job.cancel();
  const { outcome, delivered } = await handled;
  await delivered;
  expect(outcome?.result).toBe("canceled");
  expect(job.artifacts).toHaveLength(1);
});

test("AlloyCI hears of expiry in seconds, and more than it takes is not sent", async () => {
  const both = await setUp({ dialect: "alloy" });
  const artifacts = { paths: ["f"], expire_in: "never" };
  const { job } = await run(both, { script: ["echo x > f"], artifacts });
  expect(job.artifacts[0]?.expiresInSeconds).toBeGreaterThan(3e9);
  let uploads = 0;
  both.local.intercept = ({ endpoint }) => {
    if (endpoint === "upload") uploads++;
    return undefined;
  };
  const large = await run(both, { script: ["head -c 100000000 /dev/urandom > f"], artifacts });
  expect(large.outcome).toMatchObject({ result: "failed", reason: "script_failure" });
  expect(large.trace).toContain("AlloyCI takes at most 100 MB");
  expect(uploads).toBe(0);
});
