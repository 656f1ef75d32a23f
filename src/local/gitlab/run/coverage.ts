import { StringDecoder } from "node:string_decoder";
import type { Pattern } from "../decide/regex.ts";

/** Of a longer line the rest is not looked at. */
const LONGEST_LINE = 64 * 1024;

/** Looks for a job's coverage in what it prints, as it comes. */
export interface CoverageSearch {
  write(bytes: Buffer): void;
  /** The first number in the last match of the last line that matches. */
  found(): number | undefined;
}

export function searchCoverage(pattern: Pattern): CoverageSearch {
  const decoder = new StringDecoder("utf8");
  let pending = "";
  let percent: number | undefined;
  const look = (line: string): void => {
    // Without a digit there is no number, and most lines have none.
    if (!/\d/.test(line)) return;
    const groups = pattern.last(line) ?? [];
    const match = (groups.length > 1 ? groups.slice(1) : groups).findLast((group) => group !== null);
    const number = /\d+(?:\.\d+)?/.exec(match ?? "")?.[0];
    if (number !== undefined) percent = Number(number);
  };
  return {
    write(bytes) {
      const lines = (pending + decoder.write(bytes)).split("\n");
      pending = (lines.pop() ?? "").slice(0, LONGEST_LINE);
      for (const line of lines) look(line.slice(0, LONGEST_LINE));
    },
    found() {
      look(pending);
      pending = "";
      return percent;
    },
  };
}
