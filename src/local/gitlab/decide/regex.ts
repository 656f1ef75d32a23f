import { RE2JS } from "re2js";

/** A regular expression as GitLab has it: RE2, which neither looks around nor takes long. */
export interface Pattern {
  /** Whether it matches somewhere in `text`. */
  matches(text: string): boolean;
  /** The groups of the last match; the first group is the whole match. */
  last(text: string): readonly (string | null)[] | undefined;
}

/** `/text/flags`; `null`: it is not written so, or is no expression. */
export function patternOf(written: string): Pattern | null {
  const parts = /^\/([\s\S]+)\/([ismU]*)$/.exec(written);
  if (parts === null) return null;
  const [, body = "", flags = ""] = parts;
  return compile(body.replaceAll("\\/", "/"), flags);
}

/** Jobs share their rules, so the same expressions come again and again. */
const known = new Map<string, Pattern | null>();
const MOST_KNOWN = 1000;

/** `null`: it is no expression. */
export function compile(body: string, flags: string = ""): Pattern | null {
  const key = `${flags}/${body}`;
  const before = known.get(key);
  if (before !== undefined) return before;
  const made = compiled(body, flags);
  if (known.size >= MOST_KNOWN) known.clear();
  known.set(key, made);
  return made;
}

function compiled(body: string, flags: string): Pattern | null {
  try {
    const expression = RE2JS.compile(flags === "" ? body : `(?${flags})${body}`);
    return {
      matches: (text) => expression.matcher(text).find(),
      last(text) {
        const matcher = expression.matcher(text);
        let found: (string | null)[] | undefined;
        while (matcher.find())
          found = Array.from({ length: matcher.groupCount() + 1 }, (_, index) => matcher.group(index) ?? null);
        return found;
      },
    };
  } catch {
    return null;
  }
}
