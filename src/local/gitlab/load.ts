import { compose } from "./compose/compose.ts";
import type { IncludeSources } from "./compose/include-sources.ts";
import type { PipelineCase } from "./decide/case.ts";
import { expandText } from "./decide/expand.ts";
import { planPipeline } from "./plan/pipeline.ts";
import type { Plan } from "./plan/plan.ts";
import { createFindings, describeFinding } from "./read/findings.ts";
import { at, type Node, nodeOf, type Table, textOf } from "./read/node.ts";

export interface LoadOptions {
  readonly text: string;
  /** The name that messages use. */
  readonly name: string;
  /** `--input`. */
  readonly inputs: ReadonlyMap<string, string>;
  readonly sources: IncludeSources;
  readonly around: PipelineCase;
  readonly blobOf: (path: string) => string | undefined;
  /** Asked for each ref that `compare_to` names. */
  readonly changedSince: (ref: string) => Promise<readonly string[] | null>;
  /** Whether a job runs whatever its rules say. */
  readonly forced?: (name: string, group: string) => boolean;
}

export interface LoadedPlan {
  readonly table: Table;
  readonly plan: Plan;
  readonly around: PipelineCase;
  readonly warnings: readonly string[];
}

/**
 * GitLab's file, from its text to a pipeline that could be run.
 * @throws {CiConfigError} with all that GitLab would refuse
 */
export async function loadPlan(options: LoadOptions): Promise<LoadedPlan> {
  const findings = createFindings();
  const place = { file: "--input", line: 1, column: 1 };
  const inputs = { values: new Map([...options.inputs].map(([name, value]) => [name, nodeOf(value, place)])), place };
  const { sources } = options;
  const table = await compose(
    { text: options.text, name: options.name, inputs },
    { sources, around: options.around, findings },
  );
  const lookup = (name: string): string | undefined =>
    options.around.given.get(name) ?? options.around.predefined.get(name);
  const comparisons = new Map<string, readonly string[] | null>();
  for (const written of refsToCompare(table)) {
    const ref = expandText(written, lookup, "left");
    if (!comparisons.has(ref)) comparisons.set(ref, await options.changedSince(ref));
  }
  const around = { ...options.around, comparisons };
  const { blobOf, forced } = options;
  const plan = planPipeline(table, around, { blobOf, ...(forced === undefined ? {} : { forced }) }, findings);
  return { table, plan, around, warnings: findings.warnings.map(describeFinding) };
}

function refsToCompare(table: Table): Set<string> {
  const refs = new Set<string>();
  const seen = new Set<Node>();
  const walk = (node: Node): void => {
    if (node.kind === "scalar" || seen.has(node)) return;
    seen.add(node);
    const ref = textOf(at(node, "compare_to"));
    if (ref !== undefined) refs.add(ref);
    if (node.kind === "list") node.items.forEach(walk);
    if (node.kind === "table") for (const { value } of node.entries.values()) walk(value);
  };
  walk(table);
  return refs;
}
