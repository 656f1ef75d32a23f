import type { Findings } from "../read/findings.ts";
import { at, isNull, type Node, textOf } from "../read/node.ts";
import { clausesHold, type PipelineCase } from "./case.ts";
import type { Lookup } from "./expand.ts";

/** The first rule whose clauses all hold. */
export function firstMatch(
  rules: readonly Node[],
  around: PipelineCase,
  lookup: Lookup,
  findings: Findings,
): { readonly rule: Node; readonly index: number } | undefined {
  for (const [index, rule] of rules.entries()) if (clausesHold(rule, around, lookup, findings)) return { rule, index };
  return undefined;
}

/** A rule as a person finds it again. */
export function describeRule(rule: Node, index: number): string {
  const parts = ["if", "changes", "exists", "when"].flatMap((key) => {
    const node = at(rule, key);
    return node === undefined || isNull(node) ? [] : [`${key}: ${shown(node)}`];
  });
  return `rules[${index}]${parts.length === 0 ? "" : ` ${parts.join(", ")}`}`;
}

function shown(node: Node): string {
  const text = textOf(node);
  if (text !== undefined) return text.replace(/\s+/g, " ").trim();
  if (node.kind === "list") return `[${node.items.map(shown).join(", ")}]`;
  const paths = at(node, "paths");
  return paths === undefined ? "…" : shown(paths);
}
