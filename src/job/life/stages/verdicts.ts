import { ScriptFailure, Stop } from "../../../errors.ts";
import type { Tone } from "../../../shell.ts";
import type { Policy, Stage } from "../../plan/stage.ts";
import { outcomeOf, type Setback } from "../outcome/outcome.ts";

/** How a stage ended. Plain data, so that it can be kept. */
export type StageVerdict =
  | { readonly is: "passed" }
  | {
      readonly is: "failed";
      readonly outcome: Setback;
      /**
       * `decides`: it is what becomes of the job. `late`: that was decided before. `ignored`: the stage's policy does not let
       * it count.
       */
      readonly weight: "decides" | "late" | "ignored";
      /** Whether the environment still takes scripts. */
      readonly usable: boolean;
    };

export interface EndedStage {
  readonly name: string;
  /** The author's own script, within the job's time. */
  readonly authored: boolean;
  readonly verdict: StageVerdict;
}

/** What has been told to stop: `canceling` and `timed_out` end the job's own stages, `over` everything. */
export type Stopped = "nothing" | "canceling" | "timed_out" | "over";

/** May a stage with this policy run, after what has ended? */
export function mayRun(policy: Policy, ended: readonly EndedStage[], stopped: Stopped): boolean {
  if (stopped === "over") return false;
  if (policy.afterScriptBegan && !(ended.some((stage) => stage.authored) && ended.every(isUsable))) return false;
  if (policy.clock === "job" && stopped !== "nothing") return false;
  if (policy.afterTimeLimit === false && stopped === "timed_out") return false;
  // A cancel between two stages has not become a verdict yet.
  const failed = stopped !== "nothing" || decided(ended) !== null;
  return policy.when === "always" || policy.when === (failed ? "on_failure" : "on_success");
}

function isUsable({ verdict }: EndedStage): boolean {
  return verdict.is === "passed" || verdict.usable;
}

/** What the first stage that decided it made of the job; `null`: nothing has. */
export function decided(ended: readonly EndedStage[]): Setback | null {
  for (const { verdict } of ended) if (verdict.is === "failed" && verdict.weight === "decides") return verdict.outcome;
  return null;
}

/**
 * What an error makes of the stage that it ended.
 * @param signal the stage's: once it has fired, what was thrown is only its echo
 */
export function judge(
  { policy }: Pick<Stage, "policy">,
  error: unknown,
  ended: readonly EndedStage[],
  signal: AbortSignal,
): StageVerdict {
  const outcome = outcomeOf(error, signal);
  const ofTheStage = error instanceof ScriptFailure || error instanceof Stop;
  const before = decided(ended) !== null;
  const ignored = !policy.decides && !signal.aborted && (ofTheStage || before);
  return { is: "failed", outcome, weight: ignored ? "ignored" : before ? "late" : "decides", usable: ofTheStage };
}

/** What the trace says of it; `null`: nothing, as it has passed, or as the job's last line says it. */
export function sentenceOn({ title }: Stage, verdict: StageVerdict): { text: string; tone: Tone } | null {
  if (verdict.is === "passed" || verdict.weight === "decides") return null;
  const text = `${title} failed: ${verdict.outcome.message}`;
  return verdict.weight === "late"
    ? { text, tone: "error" }
    : { text: `${text}; this does not change the job's result`, tone: "warning" };
}
