import { ConfigError } from "../../../errors.ts";
import type { Place } from "./node.ts";

/** One thing that GitLab would refuse, or that is worth a word. */
export interface Finding {
  readonly place: Place;
  readonly text: string;
}

/** All that is wrong with a file, as far as it can be told at once. */
export interface Findings {
  readonly errors: readonly Finding[];
  readonly warnings: readonly Finding[];
  /** What is right and may be meant otherwise: worth a word to somebody who has the file checked. */
  readonly hints: readonly Finding[];
  error(place: Place, text: string): void;
  warn(place: Place, text: string): void;
  hint(place: Place, text: string): void;
  /** @throws {CiConfigError} there were errors: later steps would only repeat them in other words */
  check(): void;
}

/** GitLab would make no pipeline of the file. The message has a line per finding. */
export class CiConfigError extends ConfigError {
  readonly findings: readonly Finding[];
  constructor(findings: readonly Finding[]) {
    const [first] = findings;
    super(
      findings.map(describeFinding).join("\n"),
      first === undefined ? {} : { file: first.place.file, line: first.place.line },
    );
    this.findings = findings;
  }
}

export function describeFinding({ place, text }: Finding): string {
  return `${place.file}:${place.line}:${place.column}: ${text}`;
}

/** Nobody reads more findings than this. */
const MOST = 200;

export function createFindings(): Findings {
  const errors: Finding[] = [];
  const warnings: Finding[] = [];
  const hints: Finding[] = [];
  const seen = new Set<string>();
  const add = (to: Finding[], place: Place, text: string): void => {
    const line = describeFinding({ place, text });
    // A mistake in a template counts once, however many jobs take it over.
    if (seen.has(line) || to.length >= MOST) return;
    seen.add(line);
    to.push({ place, text });
  };
  return {
    errors,
    warnings,
    hints,
    error: (place, text) => add(errors, place, text),
    warn: (place, text) => add(warnings, place, text),
    hint: (place, text) => add(hints, place, text),
    check() {
      if (errors.length > 0) throw new CiConfigError(errors);
    },
  };
}
