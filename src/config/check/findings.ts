import { ConfigError } from "../../errors.ts";

/** Gathers everything that is wrong with one file, so that it can be mended in one go. */
export interface Findings {
  /** @param at offset in the text  @param key dotted, `runners.limit`, with the entry's name where there is one */
  problem(at: number, key: string, text: string): void;
  warning(at: number, key: string, text: string | (() => string)): void;
  readonly warnings: readonly string[];
  /** @throws {ConfigError} one line per problem, in the order of the file */
  raise(): void;
}

const MOST_LINES = 30;

interface Finding {
  readonly line: number;
  readonly text: string;
}

export function createFindings(file: string, lineAt: (offset: number) => number): Findings {
  const problems: Finding[] = [];
  const warnings: Finding[] = [];
  let counted = { problems: 0, warnings: 0 };
  const note = (list: Finding[], at: number, key: string, say: string | (() => string)): void => {
    if (list.length >= MOST_LINES) return;
    const text = typeof say === "string" ? say : say();
    const line = lineAt(at);
    list.push({ line, text: `${file}:${line}: ${key}${/^(is|has|holds) /.test(text) ? "" : ":"} ${text}` });
  };
  const lines = (list: readonly Finding[], total: number): string[] => {
    const texts = list.toSorted((a, b) => a.line - b.line).map((finding) => finding.text);
    return total > list.length ? [...texts, `${file}: and ${total - list.length} more like these`] : texts;
  };
  return {
    problem(at, key, text) {
      counted = { ...counted, problems: counted.problems + 1 };
      note(problems, at, key, text);
    },
    warning(at, key, text) {
      counted = { ...counted, warnings: counted.warnings + 1 };
      note(warnings, at, key, text);
    },
    get warnings() {
      return lines(warnings, counted.warnings);
    },
    raise() {
      const [first] = problems.toSorted((a, b) => a.line - b.line);
      if (first === undefined) return;
      throw new ConfigError(lines(problems, counted.problems).join("\n"), { file, line: first.line });
    },
  };
}
