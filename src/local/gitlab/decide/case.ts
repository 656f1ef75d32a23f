import type { Findings } from "../read/findings.ts";
import { at, isNull, type Node, textOf } from "../read/node.ts";
import { expandText, type Lookup } from "./expand.ts";
import { type Expression, holds, parseExpression } from "./expression.ts";
import { globMatcher } from "./glob.ts";

/** What a pipeline would be made for. */
export interface PipelineCase {
  /** `push`, `merge_request_event`, `schedule`, … */
  readonly source: string;
  /** Short name of the branch or tag. */
  readonly ref: string;
  readonly refType: "branch" | "tag" | "merge_request";
  /** Predefined ones that are known before jobs exist. */
  readonly predefined: ReadonlyMap<string, string>;
  /** Given to the project or the pipeline: they win over those of the file. */
  readonly given: ReadonlyMap<string, string>;
  /** Files that changed; `null`: nothing to compare with, so all have. */
  readonly changed: readonly string[] | null;
  /** The same against refs that `compare_to` names; `null`: there is no such ref. */
  readonly comparisons: ReadonlyMap<string, readonly string[] | null>;
  /** All files of the project. */
  readonly files: readonly string[];
  /** `group/name`. */
  readonly project: string;
}

const MOST_PATTERNS = 50;
/** Most comparisons of files with patterns; beyond it GitLab says that they match. */
const MOST_COMPARISONS = 50_000;

/** By their texts: jobs share their rules. */
const parsed = new Map<string, Expression | string>();
const MOST_PARSED = 10_000;

/** The expression that stands at `node`; what is wrong with it becomes a finding. */
export function expressionAt(node: Node, findings: Findings): Expression | undefined {
  const source = textOf(node);
  if (source === undefined) {
    findings.error(node.place, "if must be a text");
    return undefined;
  }
  const found = parsed.get(source) ?? parseExpression(source);
  if (parsed.size >= MOST_PARSED) parsed.clear();
  parsed.set(source, found);
  if (typeof found !== "string") return found;
  findings.error(node.place, `invalid expression syntax: ${found}`);
  return undefined;
}

/** Checks of a rule that need no pipeline. */
export function checkClauses(rule: Node, findings: Findings): void {
  const condition = at(rule, "if");
  if (condition !== undefined && condition.kind !== "reference" && !isNull(condition))
    expressionAt(condition, findings);
  for (const key of ["changes", "exists"]) {
    const node = at(rule, key);
    if (node === undefined || isNull(node)) continue;
    const paths = pathsNode(node);
    const items = paths?.kind === "list" ? paths.items : paths === undefined ? [] : [paths];
    if (items.length > MOST_PATTERNS)
      findings.error(node.place, `${key} has too many entries: at most ${MOST_PATTERNS} are allowed`);
    if (paths === undefined || items.some((item) => textOf(item) === undefined))
      findings.error(node.place, `${key} must be a list of texts, or a table with paths`);
    for (const item of items) {
      const text = textOf(item);
      if (text !== undefined && /^\.?\//.test(text))
        findings.warn(item.place, `"${text}" can never match: paths begin at the top of the project, without ./ or /`);
    }
  }
}

function pathsNode(node: Node): Node | undefined {
  return node.kind === "table" ? at(node, "paths") : node;
}

/** Whether `if`, `changes` and `exists` of a rule all hold; without any of them it does. */
export function clausesHold(rule: Node, around: PipelineCase, lookup: Lookup, findings: Findings): boolean {
  const condition = at(rule, "if");
  if (condition !== undefined && !isNull(condition)) {
    const expression = expressionAt(condition, findings);
    if (expression === undefined || !holds(expression, { variable: lookup })) return false;
  }
  const changes = at(rule, "changes");
  if (changes !== undefined && !isNull(changes) && !changesHold(changes, around, lookup, findings)) return false;
  const exists = at(rule, "exists");
  return exists === undefined || isNull(exists) || existsHolds(exists, around, lookup);
}

export function changesHold(node: Node, around: PipelineCase, lookup: Lookup, findings: Findings): boolean {
  const compareTo = at(node, "compare_to");
  let changed = around.changed;
  const ref = textOf(compareTo);
  if (compareTo !== undefined && ref !== undefined) {
    const found = around.comparisons.get(expandText(ref, lookup, "left"));
    if (found === undefined || found === null) {
      findings.error(compareTo.place, `compare_to: "${ref}" is no valid ref here`);
      return false;
    }
    changed = found;
  }
  return changed === null || anyMatches(patternsOf(node, lookup), changed, false);
}

function existsHolds(node: Node, around: PipelineCase, lookup: Lookup): boolean {
  const project = textOf(at(node, "project"));
  // The files of other projects are not on this machine.
  if (project !== undefined && expandText(project, lookup, "left").toLowerCase() !== around.project.toLowerCase())
    return false;
  return anyMatches(patternsOf(node, lookup), around.files, true);
}

function patternsOf(node: Node, lookup: Lookup): string[] {
  const paths = pathsNode(node);
  const items = paths?.kind === "list" ? paths.items : paths === undefined ? [] : [paths];
  return items.flatMap((item) => {
    const text = textOf(item);
    return text === undefined ? [] : [expandText(text, lookup, "left")];
  });
}

function anyMatches(patterns: readonly string[], files: readonly string[], folders: boolean): boolean {
  if (patterns.length * files.length > MOST_COMPARISONS) return true;
  return patterns.some((pattern) => {
    if (folders && pattern.endsWith("/") && !/[*?[{]/.test(pattern))
      return files.some((file) => file.startsWith(pattern));
    const matches = globMatcher(pattern);
    return files.some(matches);
  });
}
