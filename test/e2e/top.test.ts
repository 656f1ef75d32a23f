import { spawn } from "node:child_process";
import { once } from "node:events";
import { lstat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import type { LocalJob } from "../../src/local/coordinator/coordinator.ts";
import { textWidth } from "../../src/local/report/text-width.ts";
import { program, runProgram } from "../support/program.ts";
import { openSite, type Site } from "../support/site.ts";

let site: Site;
let gate: string;
let job: LocalJob;
beforeAll(async () => {
  site = await openSite({ dialect: "alloy", entries: 2, global: "concurrent = 4", entry: "limit = 2" });
  await vi.waitFor(() => lstat(join(site.stateDir, "control", "socket")), { timeout: 20_000 });
});
afterAll(async () => await site.close());
let number = 0;
beforeEach(async () => {
  gate = join(site.dir, `gate-${++number}`);
  job = site.coordinator.enqueue({
    name: `job ${number}`,
    runnerToken: site.tokens[0] ?? "",
    variables: [{ key: "SECRET", value: "hunter2-hunter2-hunter2", masked: true }],
    script: [
      // The trace has wide characters, a title for the window, a sequence that clears the screen, and a line longer
      // than any terminal is wide.
      "for n in $(seq 30); do echo \"line $n 日本語 $(printf '\\033]0;owned\\007\\033[2J') $(printf '%0300d' 0)\"; done",
      `echo begun $SECRET; while [ ! -e ${gate} ]; do sleep 0.05; done; echo finished`,
    ],
    afterScript: ["echo cleaned up"],
  });
  await job.traceContains("begun");
});
afterEach(async () => {
  await writeFile(gate, "");
  await job.reported();
});

const CLEAR = "\x1b[1;1H";
const SGR = /\x1b\[[0-9;]*m/g;

/** `top` in a terminal. */
function openTop({ columns = 80, rows = 24, env = {} }: { columns?: number; rows?: number; env?: object } = {}) {
  const child = spawn(
    "python3",
    [
      join(import.meta.dirname, "../support/terminal.py"),
      ...[String(columns), String(rows), ...program(), "top", "--config", site.configFile],
    ],
    { env: { PATH: process.env.PATH, HOME: site.dir, TERM: "xterm", LANG: "C.UTF-8", ...env }, stdio: "pipe" },
  );
  let raw = "";
  const watchers = new Set<() => void>();
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    raw += text;
    for (const watcher of [...watchers]) watcher();
  });
  const exit = once(child, "exit");
  /** The last complete picture. */
  const picture = (): string[] => {
    const whole = raw.slice(0, raw.lastIndexOf("\x1b[J"));
    return whole
      .slice(whole.lastIndexOf(CLEAR) + CLEAR.length)
      .split(/\r+\n/)
      .map((line) => line.replaceAll("\x1b[K", ""));
  };
  const plain = (): string => picture().join("\n").replace(SGR, "");
  return {
    raw: () => raw,
    picture,
    plain,
    press: (keys: string) => void child.stdin.write(keys),
    see: (pattern: RegExp) =>
      new Promise<void>((resolve, reject) => {
        const done = (settle: () => void): void => {
          clearTimeout(timer);
          watchers.delete(look);
          settle();
        };
        const look = (): void => {
          if (pattern.test(plain())) done(resolve);
        };
        const timer = setTimeout(() => done(() => reject(new Error(`no ${pattern} in\n${plain()}`))), 30_000);
        watchers.add(look);
        look();
      }),
    async quit(key: string): Promise<number> {
      child.stdin.write(key);
      const [code] = await exit;
      return code;
    },
  };
}

test("shows entries with their reasons and jobs, in 80x24 and without colours", async () => {
  const top = openTop({ env: { NO_COLOR: "1" } });
  await top.see(/> runner-0 +shell +1\/2 /);
  await top.see(/^ {2}runner-1 +shell +0\/2 +the coordinator had nothing/m);
  await top.see(new RegExp(`^ {2}${job.id} +runner-0 +build_script +\\d+s +\\d+% +\\d+M +begun \\[MASKED\\]$`, "m"));
  const lines = top.picture();
  expect(lines).toHaveLength(24);
  expect(lines[0]).toMatch(/^alloy-runner \S+ {2}running {2}process \d+ {2}1 in progress, concurrent 4$/);
  expect(lines.at(-1)).toBe("↑↓ choose  f follow  c cancel  p pause/resume  d drain  q quit");
  for (const line of lines) expect(textWidth(line), line).toBeLessThanOrEqual(80);
  expect(await top.quit("q")).toBe(0);
  expect(top.raw().replace(/\x1b\[(?:\?1049[hl]|\?25[hl]|1;1H|[0-9]?[JKH])|\x1bc/g, "")).not.toContain("\x1b");
  // The shell gets its screen and its cursor back.
  expect(top.raw().trimEnd()).toMatch(/\x1b\[\?25h\x1b\[\?1049l$/);
  expect(top.raw()).not.toContain("hunter2");
});

test("follows a trace as it is written, as text, and goes back", async () => {
  const top = openTop({ columns: 60, rows: 12 });
  await top.see(/> runner-0/);
  top.press("jj\r");
  await top.see(new RegExp(`^job ${job.id} `));
  await top.see(/^line 30 日本語 .*…\n\$ echo begun .*…\nbegun \[MASKED\]$/m);
  for (const line of top.picture()) expect(textWidth(line.replace(SGR, "")), line).toBeLessThanOrEqual(60);
  await writeFile(gate, "");
  await top.see(/^finished$/m);
  await top.see(/the trace has ended/);
  top.press("q");
  await top.see(/RUNNER +EXECUTOR/);
  expect(top.raw()).toMatch(SGR);
  expect(top.raw()).not.toContain("owned");
  expect(await top.quit("\x03")).toBe(0);
});

test("cancels after a question, pauses and resumes", async () => {
  const top = openTop();
  await top.see(/> runner-0/);
  top.press("c");
  await top.see(/choose a job to cancel it/);
  top.press("p");
  await top.see(/> runner-0 +shell +1\/2 +paused/);
  top.press("p");
  await top.see(/runner-0 asks for jobs again/);
  await top.see(/> runner-0 +shell +1\/2 +(?!paused)/);
  top.press("\x1b[B\x1b[B");
  await top.see(new RegExp(`> ${job.id} `));
  top.press("c");
  await top.see(new RegExp(`Cancel job ${job.id}\\? \\(y/n\\)`));
  top.press("n");
  await top.see(new RegExp(`\n${job.id} .*\n↑↓ choose`));
  top.press("cy");
  await job.reported();
  expect(job.trace).toContain("cleaned up");
  await top.see(new RegExp(`^ {2}${job.id} +runner-0 +canceled `, "m"));
  expect(await top.quit("q")).toBe(0);
});

test("a reader of its JSON may leave when it has read enough", async () => {
  const words = [...program(), "top", "--json", "--config", site.configFile];
  const child = spawn("bash", ["-c", '"$@" | head -n 1; exit "${PIPESTATUS[0]}"', "bash", ...words], {
    env: { PATH: process.env.PATH, HOME: site.dir },
    stdio: "pipe",
  });
  let [said, complaint] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => (said += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (complaint += chunk.toString()));
  const [code] = await once(child, "close");
  expect({ code, complaint }).toEqual({ code: 0, complaint: "" });
  expect(JSON.parse(said)).toMatchObject({ state: "running" });
});

test("drains, and says when the runner is gone; without a terminal it says what to use", async () => {
  const piped = await runProgram(["top", "--config", site.configFile], { home: site.dir });
  expect(piped).toMatchObject({ code: 1, stdout: "" });
  expect(piped.stderr).toContain("top needs a terminal. jobs shows the same once");
  const top = openTop();
  await top.see(/> runner-0/);
  top.press("d");
  await top.see(/Ask for no more jobs, and end the runner after the last\? \(y\/n\)/);
  top.press("y");
  await top.see(/^alloy-runner \S+ {2}draining/);
  await writeFile(gate, "");
  await site.runner.exit;
  await top.see(/No runner is running for/);
  expect(await top.quit("q")).toBe(0);
});
