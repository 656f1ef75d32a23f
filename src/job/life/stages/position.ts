import type { Checkpoint } from "../../../journal/live/checkpoint.ts";
import type { TracePosition } from "../../../trace/contract.ts";
import type { ProofLine, ProofOptions } from "./proof.ts";

/** A script that runs, for whoever notes where its output has come to. */
export interface RunningScript {
  /** Its number in the job, from 1. */
  readonly number: number;
  /** What the trace had taken of output when it began, all of it decided. */
  readonly from: number;
  /** What of its output the trace does not get. */
  readonly line: () => ProofLine | null;
}

/** Where the trace is in a script's own output. */
export function checkpointOf({ number, from, line }: RunningScript, position: TracePosition): Checkpoint {
  const at = position.chain.at - from;
  const found = line();
  return {
    script: number,
    // What the trace has not come to is looked for again.
    proof: found !== null && found.at < at ? found : null,
    trace: { ...position, chain: { ...position.chain, at } },
  };
}

/** How the filter of the proof goes on from there: output is to be read again from `raw` on. */
export function resumeFrom({ proof, trace }: Checkpoint): NonNullable<ProofOptions["from"]> {
  const at = trace.chain.at - trace.chain.behind;
  return { raw: proof !== null && at > proof.at ? at + proof.bytes : at, line: proof };
}
