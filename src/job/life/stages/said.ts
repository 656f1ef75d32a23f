import type { Trace } from "../../../trace/contract.ts";
import { runnerLine } from "../../../trace/lines.ts";

type Said = { readonly lines: readonly string[] } | undefined;

/** Whether an earlier process has said so in this stage, before it could note what came of it. */
export function wasSaid(beginning: string, found: Said): boolean {
  return found?.lines.some((line) => line.includes(beginning)) === true;
}

/** What is done once more says once more what an earlier process has said of it: lines that come as they came then are left out. */
export function sayingOnce(trace: Pick<Trace, "print">, found: Said): Pick<Trace, "print"> {
  const before = [...(found?.lines ?? [])];
  if (before.length === 0) return trace;
  return {
    print(text, tone = "plain") {
      const own = runnerLine(text, tone).toString();
      const at = before.findIndex((line) => line.endsWith(own));
      if (at < 0) trace.print(text, tone);
      else before.splice(0, at + 1);
    },
  };
}
