import type { AnswerKind } from "../../coordinator/contract.ts";

/** What came of one attempt to deliver. */
export type Attempt =
  | { readonly kind: "settled"; readonly result: "delivered" | "refused" }
  /** The coordinator is well and wants to be asked again. */
  | { readonly kind: "later"; readonly afterMs: number }
  /** `why`: what the coordinator answered; `ours`: nothing is wrong with it, the failure is the runner's own. */
  | {
      readonly kind: "trouble";
      readonly why: AnswerKind | "ours";
      readonly message: string;
      readonly retryAfterMs: number;
    }
  /** The signal fired. */
  | { readonly kind: "stopped" };

/** One finished job's way to its coordinator; remembers from attempt to attempt what was learnt. Never rejects. */
export type Deliver = (signal: AbortSignal) => Promise<Attempt>;

/** After one of these the job is no longer this runner's to report. */
export const endings: ReadonlySet<AnswerKind | "ours"> = new Set(["refused", "missing", "conflict", "gone"]);

export function trouble(message: string, why: AnswerKind | "ours"): Attempt {
  return { kind: "trouble", why, message, retryAfterMs: 0 };
}
