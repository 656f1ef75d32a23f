import type { Tone } from "../shell.ts";

/** How the runner's own lines look. The colour ends before the line does, so that no line begins with a reset. */
const RESET = "\x1b[0;m";
const STYLES: Readonly<Record<Tone, { color: string; label: string }>> = {
  plain: { color: "\x1b[0K", label: "" },
  notice: { color: "\x1b[32;1m", label: "" },
  warning: { color: "\x1b[0;33m", label: "WARNING: " },
  error: { color: "\x1b[31;1m", label: "ERROR: " },
};
const BOLD_YELLOW = "\x1b[33;1m";

/**
 * `text` as lines of the runner, each colored by itself because coordinators render pieces of a trace one by one.
 * Control characters of the text are shown as U+FFFD: only the runner's own colors reach a terminal.
 */
export function runnerLine(text: string, tone: Tone): Buffer {
  const { color, label } = STYLES[tone];
  return styled(text.startsWith(label) ? text : label + text, color);
}

/** A line that stands out of output: bold yellow. */
export function standoutLine(text: string): Buffer {
  return styled(text, BOLD_YELLOW);
}

function styled(text: string, color: string): Buffer {
  const clean = text
    .toWellFormed()
    .replace(/\r\n?/g, "\n")
    .replace(/(?<!\n)\n+$/, "")
    .replace(/[\x00-\x08\x0b-\x1f\x7f-\x9f]/g, "\ufffd");
  return Buffer.from(
    clean
      .split("\n")
      .map((line) => `${color}${line}${RESET}\n`)
      .join(""),
  );
}
