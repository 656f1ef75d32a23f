import type { Exit, ScriptKeeping } from "../../../executor/environment.ts";
import type { Trace } from "../../../trace/contract.ts";
import type { FoundScript } from "../durable/found.ts";
import type { KeptJob, KeptScript } from "../durable/keep.ts";
import { resumeFrom } from "./position.ts";
import { createProofFilter, type ProofFilter } from "./proof.ts";

/** How a script has ended, and what it said last. */
export interface Ran {
  readonly exit: Exit;
  readonly tail: string;
}

/** The way of a script's output into the trace. */
export interface ScriptOutput {
  readonly filter: ProofFilter;
  readonly keeping: ScriptKeeping | undefined;
  /** All of it is in the trace and on disk when this resolves. */
  close(): Promise<void>;
}

export interface OutputOptions {
  /** An earlier process has begun the script. */
  readonly earlier: FoundScript | undefined;
  /** So much of what it says last is wanted. */
  readonly tailBytes: number;
}

export async function openOutput(
  kept: KeptJob | undefined,
  trace: Trace,
  proof: string,
  { earlier, tailBytes }: OutputOptions,
): Promise<ScriptOutput> {
  const checkpoint = earlier?.checkpoint ?? null;
  const start = checkpoint === null ? { raw: 0, line: null } : resumeFrom(checkpoint);
  const lead = start.line === null ? 0 : Math.min(tailBytes, start.raw - (start.line.at + start.line.bytes));
  const raw = start.raw - Math.max(0, lead);
  const filter = createProofFilter(proof, trace.output, {
    tailBytes,
    from: { raw, line: start.line, fresh: start.raw },
  });
  const script = {
    // Where an earlier process was, positions count from the script's beginning.
    from: checkpoint === null ? trace.locate().chain.at : 0,
    line: () => filter.line,
    tailBytes,
  };
  const noted = earlier === undefined ? kept?.begin(proof, script) : kept?.goOn(earlier.number, script);
  const close = async (): Promise<void> => {
    await filter.close();
    await trace.flush();
    noted?.end();
  };
  if (noted === undefined) return { filter, keeping: undefined, close };
  // From here on a position is the script's, and not that of the one before.
  if (checkpoint === null) await trace.flush();
  const resume = earlier?.place ? { place: earlier.place, from: raw } : undefined;
  return {
    filter,
    close,
    keeping: { ...keepingOf(noted, trace, filter), ...(resume === undefined ? {} : { resume }) },
  };
}

function keepingOf({ begins, settled, exit }: KeptScript, trace: Trace, filter: ProofFilter): ScriptKeeping {
  return {
    begins,
    settled,
    // In its turn behind what the script has printed.
    say: (text, tone) => void filter.input.write(Buffer.alloc(0), () => trace.print(text, tone)),
    aside: (text, tone) => trace.aside(text, tone),
    async ended({ code, signal }, used) {
      await filter.close();
      await trace.flush();
      const seen = { code, signal, read: filter.seen, ...(used === undefined ? {} : { used }) };
      exit(seen, code === 0 ? "" : filter.tail());
    },
  };
}
