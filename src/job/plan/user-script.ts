import type { Op } from "../../shell.ts";

const LONGEST_ECHO = 2000;

/**
 * Entries of a script → instructions: each is echoed and then handed to the shell as it is. All run in one shell, so an
 * `if` may be spread over entries. With a name for their sections, entries of several lines are shown whole, folded.
 */
export function userScript(entries: readonly string[], section: string | null = null): Op[] {
  return entries.flatMap((entry, index): Op[] => {
    // A CR before the line's end comes from an editor on Windows; a shell would take it for part of the last word.
    const text = entry.replaceAll("\r\n", "\n").trim();
    if (text === "") return [{ op: "print", text: "", tone: "plain" }];
    const line = echoOf(text);
    const echo: Op =
      section !== null && text.includes("\n")
        ? { op: "printSection", section: `section_${section}_${index}`, text: `$ ${text}`, line, tone: "notice" }
        : { op: "print", text: line, tone: "notice" };
    return [echo, { op: "source", text }];
  });
}

/** `$ first line`, with a mark where lines follow. */
function echoOf(text: string): string {
  const end = text.indexOf("\n");
  const first = end < 0 ? text : text.slice(0, end).trimEnd();
  const shown = first.length > LONGEST_ECHO ? `${first.slice(0, LONGEST_ECHO)}…` : first;
  return end < 0 ? `$ ${shown}` : `$ ${shown} # collapsed multi-line command`;
}
