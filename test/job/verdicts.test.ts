import { describe, expect, test } from "vitest";
import { ScriptFailure, Stop, SystemFailure } from "../../src/errors.ts";
import {
  decided,
  type EndedStage,
  judge,
  mayRun,
  type StageVerdict,
  type Stopped,
  sentenceOn,
} from "../../src/job/life/stages/verdicts.ts";
import type { Policy, TransferStage } from "../../src/job/plan/stage.ts";
import { never } from "../../src/time.ts";

const policies = {
  script: { when: "on_success", afterScriptBegan: false, attempts: 1, timeoutMs: null, decides: true, clock: "job" },
  onFailure: { when: "on_failure", afterScriptBegan: false, attempts: 1, timeoutMs: null, decides: true, clock: "job" },
  afterScript: { when: "always", afterScriptBegan: true, attempts: 1, timeoutMs: 1, decides: false, clock: "own" },
  uploadAlways: { when: "always", afterScriptBegan: true, attempts: 1, timeoutMs: 1, decides: true, clock: "own" },
  uploadFailed: { when: "on_failure", afterScriptBegan: true, attempts: 1, timeoutMs: 1, decides: true, clock: "own" },
  notAfterLimit: {
    when: "always",
    afterScriptBegan: false,
    attempts: 1,
    timeoutMs: 1,
    decides: false,
    clock: "own",
    afterTimeLimit: false,
  },
} as const satisfies Record<string, Policy>;

const failed = (weight: "decides" | "late" | "ignored", usable = true): StageVerdict => ({
  is: "failed",
  outcome: { result: "failed", reason: "script_failure", message: "exit status 1" },
  weight,
  usable,
});
const pasts = {
  nothing: [],
  sources: [{ name: "get_sources", authored: false, verdict: { is: "passed" } }],
  noSources: [{ name: "get_sources", authored: false, verdict: failed("decides") }],
  passed: [{ name: "step_script", authored: true, verdict: { is: "passed" } }],
  failed: [{ name: "step_script", authored: true, verdict: failed("decides") }],
  allowed: [{ name: "step_script", authored: true, verdict: failed("ignored") }],
  lost: [{ name: "step_script", authored: true, verdict: failed("decides", false) }],
} as const satisfies Record<string, readonly EndedStage[]>;

/** Which of the policies may run, in the order of `policies`: `x` may. */
const table: readonly (readonly [past: keyof typeof pasts, stopped: Stopped, may: string])[] = [
  // The columns are script, onFailure, afterScript, uploadAlways, uploadFailed, notAfterLimit.
  ["nothing", "nothing", "x----x"],
  ["nothing", "canceling", "-----x"],
  ["nothing", "timed_out", "------"],
  ["nothing", "over", "------"],
  ["sources", "nothing", "x----x"],
  ["noSources", "nothing", "-x---x"],
  ["noSources", "canceling", "-----x"],
  ["passed", "nothing", "x-xx-x"],
  ["passed", "canceling", "--xxxx"],
  ["passed", "timed_out", "--xxx-"],
  ["passed", "over", "------"],
  ["failed", "nothing", "-xxxxx"],
  ["failed", "canceling", "--xxxx"],
  ["failed", "timed_out", "--xxx-"],
  ["failed", "over", "------"],
  ["allowed", "nothing", "x-xx-x"],
  ["lost", "nothing", "-x---x"],
  ["lost", "timed_out", "------"],
];

describe("what may run", () => {
  test.each(table)("after %s, with %s stopped: %s", (past, stopped, may) => {
    const found = Object.values(policies).map((policy) => (mayRun(policy, pasts[past], stopped) ? "x" : "-"));
    expect(found.join("")).toBe(may);
  });
});

describe("a stage's error", () => {
  const stage = (policy: Policy): TransferStage => ({
    kind: "transfer",
    name: "upload_artifacts",
    title: "uploading artifacts",
    transfer: { what: "download_artifacts", dependencies: [], attempts: 1 },
    policy,
  });
  const weigh = (policy: Policy, error: unknown, past: readonly EndedStage[], signal = never) => {
    const verdict = judge(stage(policy), error, past, signal);
    return { verdict, sentence: sentenceOn(stage(policy), verdict)?.text ?? null };
  };

  test("decides, is late, or does not count", () => {
    const fault = new ScriptFailure("exit status 1", { exitCode: 1 });
    const first = weigh(policies.script, fault, []);
    expect(first.verdict).toMatchObject({ weight: "decides", usable: true, outcome: { exitCode: 1 } });
    expect(first.sentence).toBeNull();
    expect(weigh(policies.uploadAlways, fault, pasts.failed)).toMatchObject({
      verdict: { weight: "late" },
      sentence: "uploading artifacts failed: exit status 1",
    });
    expect(weigh(policies.afterScript, fault, pasts.passed)).toMatchObject({
      verdict: { weight: "ignored" },
      sentence: "uploading artifacts failed: exit status 1; this does not change the job's result",
    });
  });

  test("of the runner's counts also where the stage itself would not, and leaves a place that takes no scripts", () => {
    const lost = new SystemFailure("the connection is lost");
    expect(weigh(policies.afterScript, lost, pasts.passed).verdict).toMatchObject({ weight: "decides", usable: false });
    expect(weigh(policies.afterScript, lost, pasts.failed).verdict).toMatchObject({ weight: "ignored", usable: false });
  });

  test("that came after its signal is what the signal says", () => {
    const gone = AbortSignal.abort(new Stop("canceled", "by the coordinator"));
    const { verdict } = weigh(policies.afterScript, new Error("aborted"), pasts.passed, gone);
    expect(verdict).toMatchObject({ weight: "decides", outcome: { result: "canceled" } });
    expect(decided([{ name: "after_script", authored: false, verdict }])).toMatchObject({ result: "canceled" });
  });
});
