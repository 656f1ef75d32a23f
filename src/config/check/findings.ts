import { ConfigError } from "../../errors.ts";

/** Gathers everything that is wrong with one file, so that it can be mended in one go. */
export interface Findings {
  /** @param at offset in the text  @param key dotted, `runners.limit`, with the entry's name where there is one */
  problem(at: number, key: string, text: string): void;
  warning(at: number, key: string, text: string | (() => string)): void;
  readonly warnings: readonly string[];
  /** One line per problem, in the order of the file. */
  readonly problems: readonly string[];
  /** The line of the first of them. */
  readonly line: number | undefined;
  /** Problems of a part that fails by itself; its warnings are among those of the whole. */
  apart(): Findings;
  /** @param more problems of parts  @throws {ConfigError} there are problems */
  raise(more: readonly string[]): void;
}

const MOST_LINES = 30;

interface Finding {
  readonly line: number;
  readonly text: string;
}

interface Found {
  readonly kept: Finding[];
  total: number;
}

export function createFindings(file: string, lineAt: (offset: number) => number): Findings {
  const note = (list: Found, at: number, key: string, say: string | (() => string)): void => {
    list.total++;
    if (list.kept.length >= MOST_LINES) return;
    const text = typeof say === "string" ? say : say();
    const line = lineAt(at);
    list.kept.push({ line, text: `${file}:${line}: ${key}${/^(is|has|holds) /.test(text) ? "" : ":"} ${text}` });
  };
  const sorted = ({ kept }: Found): readonly Finding[] => kept.toSorted((a, b) => a.line - b.line);
  const lines = (list: Found): string[] => {
    const texts = sorted(list).map((finding) => finding.text);
    const more = list.total - list.kept.length;
    return more > 0 ? [...texts, `${file}: and ${more} more like these`] : texts;
  };
  const sharing = (warnings: Found): Findings => {
    const problems: Found = { kept: [], total: 0 };
    const findings: Findings = {
      problem: (at, key, text) => note(problems, at, key, text),
      warning: (at, key, text) => note(warnings, at, key, text),
      get warnings() {
        return lines(warnings);
      },
      get problems() {
        return lines(problems);
      },
      get line() {
        return sorted(problems)[0]?.line;
      },
      apart: () => sharing(warnings),
      raise(more) {
        const { line } = findings;
        if (line !== undefined) throw new ConfigError([...findings.problems, ...more].join("\n"), { file, line });
      },
    };
    return findings;
  };
  return sharing({ kept: [], total: 0 });
}
