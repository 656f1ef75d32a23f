import { ConfigError, type ConfigProblem, problemLine } from "../../errors.ts";

/** Gathers everything that is wrong with one file, so that it can be mended in one go. */
export interface Findings {
  /** @param at offset in the text  @param key dotted, `runners.limit`, with the entry's name where there is one */
  problem(at: number, key: string, text: string, missing?: ConfigProblem["missing"]): void;
  warning(at: number, key: string, text: string | (() => string)): void;
  readonly warnings: readonly string[];
  /** In the order of the file. */
  readonly problems: readonly ConfigProblem[];
  /** The line of the first of them. */
  readonly line: number | undefined;
  /** Problems of a part that fails by itself; its warnings are among those of the whole. */
  apart(): Findings;
  /** @param more problems of parts  @throws {ConfigError} there are problems */
  raise(more: readonly ConfigProblem[]): void;
}

const MOST_LINES = 30;

interface Finding {
  readonly line: number;
  readonly found: ConfigProblem;
}

interface Remark {
  readonly at: number;
  readonly key: string;
  /** A function where it costs something to say. */
  readonly say: string | (() => string);
  readonly missing?: ConfigProblem["missing"];
}

interface Found {
  readonly kept: Finding[];
  total: number;
}

export function createFindings(file: string, lineAt: (offset: number) => number): Findings {
  const note = (list: Found, { at, key, say, missing }: Remark): void => {
    list.total++;
    if (list.kept.length >= MOST_LINES) return;
    const said = typeof say === "string" ? say : say();
    const line = lineAt(at);
    const text = `${key}${/^(is|has|holds) /.test(said) ? "" : ":"} ${said}`;
    list.kept.push({ line, found: { place: `${file}:${line}`, text, ...(missing === undefined ? {} : { missing }) } });
  };
  const sorted = ({ kept }: Found): readonly Finding[] => kept.toSorted((a, b) => a.line - b.line);
  const all = (list: Found): ConfigProblem[] => {
    const found = sorted(list).map((finding) => finding.found);
    const more = list.total - list.kept.length;
    return more > 0 ? [...found, { place: file, text: `and ${more} more like these` }] : found;
  };
  const sharing = (warnings: Found): Findings => {
    const problems: Found = { kept: [], total: 0 };
    const findings: Findings = {
      problem: (at, key, say, missing) =>
        note(problems, { at, key, say, ...(missing === undefined ? {} : { missing }) }),
      warning: (at, key, say) => note(warnings, { at, key, say }),
      get warnings() {
        return all(warnings).map(problemLine);
      },
      get problems() {
        return all(problems);
      },
      get line() {
        return sorted(problems)[0]?.line;
      },
      apart: () => sharing(warnings),
      raise(more) {
        const { line } = findings;
        if (line !== undefined) throw configError([...findings.problems, ...more], { file, line });
      },
    };
    return findings;
  };
  return sharing({ kept: [], total: 0 });
}

/** One error of several problems, a line each. */
export function configError(problems: readonly ConfigProblem[], at: { file: string; line: number }): ConfigError {
  return new ConfigError(problems.map(problemLine).join("\n"), { ...at, problems });
}
