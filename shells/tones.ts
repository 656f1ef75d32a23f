import type { Tone } from "../src/shell.ts";

/** Sequences around a line of the runner's own; the same ones that users know from the Go runner. */
const COLOURS: Readonly<Record<Tone, string>> = {
  plain: "",
  notice: "\x1b[32;1m",
  warning: "\x1b[0;33m",
  error: "\x1b[31;1m",
};
const COLOUR_END = "\x1b[0;m";

/** A line of the runner's own in its colour. */
export function toned(text: string, tone: Tone): string {
  return tone === "plain" ? text : `${COLOURS[tone]}${text}${COLOUR_END}`;
}
