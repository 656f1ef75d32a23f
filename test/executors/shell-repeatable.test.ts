import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import type { Note } from "../../src/executor/prepare.ts";
import { never } from "../../src/time.ts";
import { runOps, Sink, sampleRequest, scriptOf, source } from "../support/executor-kit.ts";
import { isAlive } from "../support/processes.ts";
import { opened, preparedIn } from "./shell-stand.ts";

const durable = () => opened({ durable: true, killGraceMs: 300 });
const keeping = { begins: () => {}, settled: () => 0, say: () => {}, ended: async () => {} };
const repeatable = { repeatable: true } as const;

describe.runIf(process.platform === "linux")("what need not outlive the runner", () => {
  test("a script that can be repeated has the runner for its parent", async () => {
    const environment = await preparedIn(durable().executor);
    const begun: Note[] = [];
    const output = new Sink();
    const script = {
      ...scriptOf(environment, source("echo of $PPID")),
      ...repeatable,
      keeping: { ...keeping, begins: (place: Note) => void begun.push(place) },
    };
    expect(await environment.run(script, output, never)).toEqual({ code: 0, signal: null });
    expect(output.text).toContain(`of ${process.pid}\n`);
    expect(begun).toEqual([{ kind: "shell-attached" }]);
    expect((await runOps(environment, source("echo of $PPID"))).text).not.toContain(`of ${process.pid}\n`);
  });

  test("one whose runner was killed is ended, and printed from where its trace was", async () => {
    const { dir, executor } = durable();
    const jobKey = `test-${process.pid}-again`;
    const [pidFile = "", done = ""] = ["pid", "done"].map((name) => join(dir, name));
    const text = `echo line one; echo line two; [ -e ${done} ] || { echo $$ >${pidFile}; exec sleep 600; }; echo line three; exit 3`;
    const program = join(import.meta.dirname, "../support/dying-runner.ts");
    const stdio = ["ignore", "pipe", "inherit"] as const;
    const child = spawn(process.execPath, [program, dir, jobKey, text, "repeatable"], { stdio: [...stdio] });
    onTestFinished(() => void child.kill("SIGKILL"));
    const [line]: unknown[] = await once(child.stdout, "data");
    await expect.poll(() => existsSync(pidFile) && readFileSync(pidFile, "utf8"), { timeout: 30_000 }).toMatch(/\n$/);
    const left = Number(readFileSync(pidFile, "utf8"));
    child.kill("SIGKILL");
    await once(child, "exit");
    expect(isAlive(left)).toBe(true);

    const environment = await preparedIn(executor, { ...sampleRequest(), jobKey });
    const output = new Sink();
    const place: Note = JSON.parse(String(line));
    const known = "the-proof\nline one\nli".length;
    const script = {
      ...scriptOf(environment, source(text.replace(`[ -e ${done} ]`, "true"))),
      ...repeatable,
      keeping: { ...keeping, resume: { place, from: known } },
    };
    expect(await environment.run(script, output, never)).toEqual({ code: 3, signal: null });
    expect(output.text).toBe("ne two\nline three\n");
    expect(isAlive(left)).toBe(false);
  });

  test.runIf(process.geteuid?.() === 0)("is all in a container that ends with the runner", () => {
    const attendance = join(import.meta.dirname, "../../executors/shell/launch/attendance.ts");
    const ask = (ownSystem: string): string => {
      const code = `const { outlivesRunner } = await import(${JSON.stringify(attendance)}); console.log(outlivesRunner(${JSON.stringify(ownSystem)}))`;
      const node = [process.execPath, "--input-type=module", "--eval", code];
      return execFileSync("unshare", ["--pid", "--fork", "--mount-proc", ...node], { encoding: "utf8" }).trim();
    };
    expect(ask("/run/no-such-system")).toBe("false");
    // One that a system was booted in.
    expect(ask("/proc")).toBe("true");
  });

  test("a job that is not kept has no attendants, and no handle", async () => {
    const { executor } = durable();
    const environment = await preparedIn(executor, { ...sampleRequest(), endsWithRunner: true });
    expect(environment.handle).toBeUndefined();
    expect((await runOps(environment, source("echo of $PPID"))).text).toContain(`of ${process.pid}\n`);
  });
});
