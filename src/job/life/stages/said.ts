import type { Trace } from "../../../trace/contract.ts";

type Said = { readonly lines: readonly string[] } | undefined;

/** Whether an earlier process has said so in this stage, before it could note what came of it. */
export function wasSaid(beginning: string, found: Said): boolean {
  return found?.lines.some((line) => line.includes(beginning)) === true;
}

/** What is done once more says once more what an earlier process has said of it: that is left out, as long as it comes in the same order. */
export function sayingOnce(trace: Pick<Trace, "print">, found: Said): Pick<Trace, "print"> {
  const before = [...(found?.lines ?? [])];
  if (before.length === 0) return trace;
  return {
    print(text, tone) {
      const at = before.findIndex((line) => line.includes(text));
      if (at < 0) trace.print(text, tone);
      else before.splice(0, at + 1);
    },
  };
}
