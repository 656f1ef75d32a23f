import { afterAll, describe, expect, test } from "vitest";
import { findShellWriter } from "../../shells/index.ts";
import type { Script } from "../../src/executor/environment.ts";
import type { Executor } from "../../src/executor/executor.ts";
import { draft, findWriters } from "../../src/job/plan/writers.ts";
import type { Op, ShellName } from "../../src/shell.ts";
import { pwshMissing } from "../support/pwsh.ts";
import { createStand, jobWith, step, variable } from "./stand.ts";

const own: readonly Op[] = [
  { op: "export", name: "A", value: "1" },
  { op: "export", name: "B.C", value: "2" },
  { op: "run", argv: ["git", "--version"] },
];
const authors: readonly Op[] = [...own, { op: "source", text: "echo hello" }];

describe("who writes a script", () => {
  const chosen = (ops: readonly Op[], shell: ShellName, plainShell?: ShellName): string =>
    draft(ops, findWriters(shell, plainShell === undefined ? {} : { plainShell }, findShellWriter), true).writer.name;

  test("without a word of an author's it is for the plain shell where authors have a PowerShell", () => {
    expect(chosen(own, "pwsh")).toBe("sh");
    expect([chosen(own, "pwsh", "cmd"), chosen(own, "powershell", "cmd")]).toEqual(["cmd", "cmd"]);
    for (const shell of ["bash", "sh", "cmd"] as const) expect(chosen(own, shell)).toBe(shell);
    for (const shell of ["bash", "sh", "cmd", "powershell", "pwsh"] as const)
      expect(chosen(authors, shell)).toBe(shell);
  });

  test("a name that only the author's shell can hold is in the author's scripts", () => {
    const writers = findWriters("pwsh", {}, findShellWriter);
    const names = (ops: readonly Op[]): string[] =>
      draft(ops, writers, true).ops.flatMap((op) => (op.op === "export" ? [op.name] : []));
    expect([names(own), names(authors)]).toEqual([["A"], ["A", "B.C"]]);
  });

  test("only shells that read profiles log in, and only for authors", () => {
    const logsIn = (ops: readonly Op[], shell: ShellName, login: boolean): boolean =>
      draft(ops, findWriters(shell, {}, findShellWriter), login).login;
    expect([logsIn(authors, "bash", true), logsIn(authors, "sh", true)]).toEqual([true, true]);
    expect([logsIn(own, "bash", true), logsIn(authors, "bash", false)]).toEqual([false, false]);
    expect([logsIn(authors, "pwsh", true), logsIn(own, "pwsh", true)]).toEqual([false, false]);
  });

  test("a shell that nothing can be written for is named", () => {
    expect(() => findWriters("pwsh", {}, (name) => (name === "sh" ? undefined : findShellWriter(name)))).toThrow(
      "no scripts can be written for the shell sh",
    );
  });
});

describe("a job in PowerShell", () => {
  const missing = pwshMissing();
  if (missing !== null) {
    test.skip(missing, () => {});
    return;
  }
  const stands = { bash: createStand(), pwsh: createStand({ shell: "pwsh" }) };
  afterAll(async () => {
    await stands.bash.close();
    await stands.pwsh.close();
  });
  /** The executor, which also records the program that each script was started with. */
  const watched = (executor: Executor, started: string[]): Executor => ({
    ...executor,
    prepare: async (request, notes, signal) => {
      const environment = await executor.prepare(request, notes, signal);
      return {
        ...environment,
        run: (script: Script, output, until) => {
          started.push(script.command.argv[0]);
          return environment.run(script, output, until);
        },
      };
    },
  });
  const job = jobWith({
    variables: [variable("GIT_STRATEGY", "empty"), variable("A.B", "of the author's")],
    steps: [step("script", ["echo hello"]), step("after_script", ["echo goodbye"])],
  });

  test("starts one for each of the author's stages and no other, and its trace is that of any shell", async () => {
    const started: string[] = [];
    const { outcome, trace } = await stands.pwsh.run(job, { executor: watched(stands.pwsh.executor, started) });
    expect(outcome, trace).toEqual({ result: "success" });
    expect(started).toEqual(["sh", "pwsh", "pwsh"]);
    const inBash = await stands.bash.run(job);
    expect(inBash.trace).toContain('left out: "A.B"');
    const plain = (text: string): string => text.replace(/^(?:Used .*; t|T)ook \d.*\n/m, "");
    expect(plain(trace)).toBe(plain(inBash.trace).replace(/^.*left out: "A\.B".*\n/m, ""));
  }, 60_000);

  test("hears a hook of the operator's, who writes for it, too, in the stage that it belongs to", async () => {
    const started: string[] = [];
    const { outcome, trace } = await stands.pwsh.run(
      { ...job, variables: [...job.variables, variable("GIT_STRATEGY", "fetch")], steps: [] },
      {
        executor: watched(stands.pwsh.executor, started),
        runner: { preCloneScript: "Write-Output ('{0}-{1}' -f 'before', 'all'); exit 3" },
      },
    );
    expect(trace).toContain("\nbefore-all\n");
    expect([outcome.result, [...new Set(started)]]).toEqual(["failed", ["pwsh"]]);
  }, 60_000);

  test("sees a name that no other shell can hold", async () => {
    const script = ["Write-Output \"<$([Environment]::GetEnvironmentVariable('A.B'))>\""];
    const { outcome, trace } = await stands.pwsh.run({ ...job, steps: [step("script", script)] });
    expect([outcome.result, trace]).toEqual(["success", expect.stringContaining("\n<of the author's>\n")]);
  }, 60_000);
});
