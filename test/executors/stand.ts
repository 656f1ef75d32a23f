/** Runs scripts through the shell executor and prints what came of them as JSON: once under Node, once under Bun. */
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Writable } from "node:stream";
import shell from "../../executors/shell/index.ts";
import { findShellWriter } from "../../shells/index.ts";
import { never } from "../../src/time.ts";
import { executorDeps } from "../support/executor-deps.ts";
import { ownTrust } from "../support/job.ts";

const dir = mkdtempSync(join(tmpdir(), "alloy-stand-"));
const scratchDir = join(dir, "scratch");
mkdirSync(scratchDir);

const executor = shell.create({}, executorDeps(dir, { shell: "sh", killGraceMs: 200 }));
const environment = await executor.prepare(
  {
    job: JSON.parse('{"projectId":"1"}'),
    jobKey: `stand-${process.pid}-${Date.now()}`,
    runnerId: "0a1b2c3d",
    concurrentId: 0,
    projectPath: "group/project",
    trust: ownTrust,
    expand: (text) => text,
    environment: [],
    variables: [],
    variablesAt: () => [],
    expandSettled: (text) => text,
    openVariables: () => ({ open: [], withSecrets: () => [], expandWith: (_, text) => text }),
    remember: async () => {},
  },
  { print: () => {}, stream: new Writable() },
  never,
);

async function run(text: string, { pauseMs = 0, signal = never } = {}): Promise<unknown> {
  const hash = createHash("sha256");
  let bytes = 0;
  let most = 0;
  let head = "";
  const output: Writable = new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      hash.update(chunk);
      bytes += chunk.length;
      most = Math.max(most, output.writableLength);
      if (head.length < 2000) head += chunk.toString("latin1", 0, 2000);
      if (pauseMs > 0) setTimeout(done, pauseMs);
      else done();
    },
  });
  const writer = findShellWriter("sh");
  const script = writer?.write([{ op: "source", text }], { tmpDir: "/nowhere", xtrace: false, proof: "proof" }) ?? "";
  const exit = await environment
    .run(
      {
        text: script,
        command: { argv: ["sh"], scriptOn: "stdin", extension: ".sh" },
        stage: "build_script",
        runIn: "build",
        login: false,
      },
      output,
      signal,
    )
    .catch((error: unknown) => String(error));
  if (output.writableLength > 0) await new Promise<void>((resolve) => output.end(resolve));
  // The names of processes contain their numbers, which are replaced.
  const shown = head.slice(0, 500).replace(/\(\d+\)/g, "(pid)");
  return {
    exit,
    bytes: shown.includes("(pid)") ? 0 : bytes,
    hash: shown.includes("(pid)") ? "" : hash.digest("hex"),
    bounded: most < 4_000_000,
    shown: bytes < 1000 ? shown : "",
  };
}

const stop = new AbortController();
setTimeout(() => stop.abort(new Error("stopped")), 300);
const results = [
  await run("sleep 600", { signal: stop.signal }),
  await run("echo out; echo err >/dev/stderr; exit 3"),
  await run("head -c 300000000 /dev/zero"),
  await run("head -c 20000000 /dev/zero", { pauseMs: 1 }),
  await run("sleep 600 & setsid sleep 600 >/dev/null 2>&1 & echo left"),
  await run("kill -9 $$"),
  await run("(sleep 0.2; echo late) & echo early"),
  ...(await Promise.all(Array.from({ length: 8 }, (_, index) => run(`seq 1 100000 | sed s/^/${index}-/`)))),
];
const before = readdirSync("/proc/self/fd").length;
for (let round = 0; round < 20; round++) await run("echo x");
const leaked = readdirSync("/proc/self/fd").length - before > 2;

await environment.destroy(never);
await executor.close(never);
const left = readdirSync(scratchDir);
rmSync(dir, { recursive: true });
console.log(JSON.stringify({ results, leaked, left, memoryBounded: process.memoryUsage().rss < 500_000_000 }, null, 1));
