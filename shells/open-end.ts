/** What an author's text may have left open, and what would close it. */
export interface OpenEnd {
  readonly kind: "here-document" | "quote";
  /** Put behind the text, this closes it. */
  readonly closer: string;
  /** The author's line that opens it. */
  readonly line: string;
}

/** The word behind `<<`: quotes and backslashes are no part of what ends the here-document. */
const DELIMITER = /^-?[ \t]*((?:'[^'\n]*'|"[^"\n]*"|\\.|[^\s;&|<>()'"\\`])+)/;

/**
 * Where a text for a POSIX shell seems to end within a quote or a here-document. It takes some that are closed for open ones
 * (a quote inside of a substitution, a shift of bits), so the shell has to be asked before anything is said of it.
 */
export function findOpenEnd(text: string): OpenEnd | undefined {
  const lineAt = (at: number): string => {
    const end = text.indexOf("\n", at);
    return text.slice(text.lastIndexOf("\n", at - 1) + 1, end < 0 ? undefined : end);
  };
  let pending: { readonly at: number; readonly word: string; readonly tabs: boolean }[] = [];
  const isOpen = (): OpenEnd | undefined => {
    const [first] = pending;
    if (first === undefined) return undefined;
    return {
      kind: "here-document",
      closer: pending.map(({ word }) => `\n${word}`).join(""),
      line: lineAt(first.at),
    };
  };
  for (let at = 0; at < text.length; at++) {
    const sign = text[at];
    if (sign === "\\") at++;
    else if (sign === "'" || sign === '"') {
      const end = sign === "'" ? text.indexOf("'", at + 1) : endOfQuoted(text, at + 1);
      if (end < 0) return { kind: "quote", closer: sign, line: lineAt(at) };
      at = end;
    } else if (sign === "#" && /^$|[\s;&|()]/.test(text.slice(Math.max(0, at - 1), at))) {
      const end = text.indexOf("\n", at);
      if (end < 0) break;
      at = end - 1;
    } else if (text.startsWith("<<<", at)) at += 2;
    else if (text.startsWith("<<", at)) {
      const [whole = "", word] = DELIMITER.exec(text.slice(at + 2, at + 500)) ?? [];
      if (word === undefined) continue;
      const tabs = whole.startsWith("-");
      pending.push({ at, word: word.replace(/['"]|\\(?=.)/g, ""), tabs });
      at += 1 + whole.length;
    } else if (sign === "\n") {
      while (pending[0] !== undefined) {
        const { word, tabs } = pending[0];
        const end = endOfDocument(text, at + 1, word, tabs);
        if (end < 0) return isOpen();
        at = end;
        pending = pending.slice(1);
      }
    }
  }
  return isOpen();
}

/** Where the double quote ends that begins before `at`; -1: nowhere. */
function endOfQuoted(text: string, at: number): number {
  for (; at < text.length; at++) {
    if (text[at] === '"') return at;
    if (text[at] === "\\") at++;
  }
  return -1;
}

/** End of the line that is `word`, from the line at `at` on; -1: there is none. */
function endOfDocument(text: string, at: number, word: string, tabs: boolean): number {
  for (let start = at; start <= text.length; ) {
    const found = text.indexOf("\n", start);
    const end = found < 0 ? text.length : found;
    const line = text.slice(start, end);
    if ((tabs ? line.replace(/^\t+/, "") : line) === word) return end - 1;
    start = end + 1;
  }
  return -1;
}
