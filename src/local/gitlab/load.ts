import { compose } from "./compose/compose.ts";
import type { MainFile } from "./compose/include.ts";
import type { IncludeSources } from "./compose/include-sources.ts";
import type { PipelineCase } from "./decide/case.ts";
import { expandText } from "./decide/expand.ts";
import type { PlanSurroundings } from "./plan/jobs/planned-job.ts";
import { planPipeline } from "./plan/pipeline.ts";
import type { Plan, PlannedTrigger } from "./plan/plan.ts";
import { createFindings, describeFinding } from "./read/findings.ts";
import { at, type Entry, isNull, type Node, nodeOf, type Table, textOf } from "./read/node.ts";

export interface LoadOptions {
  readonly text: string;
  /** The name that messages use. */
  readonly name: string;
  /** `--input`. */
  readonly inputs: ReadonlyMap<string, string>;
  /** Values for inputs that are not given, and the file that has them. */
  readonly offered?: { readonly file: string; readonly values: Readonly<Record<string, unknown>> };
  /** Parts of the plan that the command line decides, of this pipeline and not of its children. */
  readonly wishes: Pick<PlanSurroundings, "forced" | "jobInputs" | "ignoreWorkflow">;
  readonly sources: IncludeSources;
  readonly around: PipelineCase;
  readonly blobOf: (path: string) => string | undefined;
  /** Asked for each ref that `compare_to` names. */
  readonly changedSince: (ref: string) => Promise<readonly string[] | null>;
}

export interface LoadedPlan {
  readonly table: Table;
  readonly plan: Plan;
  readonly around: PipelineCase;
  readonly warnings: readonly string[];
  readonly hints: readonly string[];
  /**
   * The pipeline that one of its jobs starts.
   * @throws {CiConfigError} with all that GitLab would refuse
   */
  child(request: ChildRequest): Promise<LoadedPlan>;
}

/** What a parent pipeline knows of a child. */
export interface ChildRequest {
  readonly trigger: PlannedTrigger;
  /** Variables that are handed down; those of the command line are there anyway. */
  readonly given: ReadonlyMap<string, string>;
  /** `CI_PIPELINE_ID` of the parent. */
  readonly parentId: string;
  /** Reads out of what a job of the parent has uploaded. */
  readonly artifact: NonNullable<IncludeSources["artifact"]>;
}

/**
 * GitLab's file, from its text to a pipeline that could be run.
 * @throws {CiConfigError} with all that GitLab would refuse
 */
export async function loadPlan(options: LoadOptions): Promise<LoadedPlan> {
  const place = { file: "--input", line: 1, column: 1 };
  const kept = { file: options.offered?.file ?? "", line: 1, column: 1 };
  const inputs = {
    values: new Map([...options.inputs].map(([name, value]) => [name, nodeOf(value, place)])),
    offered: new Map(Object.entries(options.offered?.values ?? {}).map(([name, value]) => [name, nodeOf(value, kept)])),
    place,
  };
  const { sources, wishes } = options;
  const main = { text: options.text, name: options.name, inputs };
  return await load(main, { options, sources, around: options.around, wishes });
}

interface Loading {
  readonly options: LoadOptions;
  readonly sources: IncludeSources;
  readonly around: PipelineCase;
  readonly wishes: LoadOptions["wishes"];
}

async function load(main: MainFile, { options, sources, around: given, wishes }: Loading): Promise<LoadedPlan> {
  const findings = createFindings();
  const table = await compose(main, { sources, around: given, findings });
  const lookup = (name: string): string | undefined => given.given.get(name) ?? given.predefined.get(name);
  const comparisons = new Map<string, readonly string[] | null>();
  for (const written of refsToCompare(table)) {
    const ref = expandText(written, lookup, "left");
    if (!comparisons.has(ref)) comparisons.set(ref, await options.changedSince(ref));
  }
  const around = { ...given, comparisons };
  const { blobOf } = options;
  const plan = planPipeline(table, around, { blobOf, ...wishes }, findings);
  return {
    table,
    plan,
    around,
    warnings: findings.warnings.map(describeFinding),
    hints: findings.hints.map(describeFinding),
    child: async ({ trigger, given: handed, parentId, artifact }) =>
      await load(
        { include: withInputs(trigger) },
        {
          options,
          sources: { ...sources, artifact },
          wishes: {},
          around: {
            ...around,
            source: CHILD_SOURCE,
            predefined: new Map([
              ...around.predefined,
              ["CI_PIPELINE_SOURCE", CHILD_SOURCE],
              ["CI_UPSTREAM_PIPELINE_ID", parentId],
              ["CI_UPSTREAM_PROJECT_ID", around.predefined.get("CI_PROJECT_ID") ?? ""],
            ]),
            given: new Map([...handed, ...options.around.given]),
          },
        },
      ),
  };
}

const CHILD_SOURCE = "parent_pipeline";

/** `trigger:inputs` go to the files that are given none where they are included. */
function withInputs({ include, inputs }: PlannedTrigger): Node {
  if (include === undefined) throw new Error("A job that starts a child pipeline names its files");
  if (inputs === undefined || isNull(inputs)) return include;
  const items = include.kind === "list" ? include.items : [include];
  const given: Entry = { place: inputs.place, textual: true, value: inputs };
  const add = (item: Node): Node => {
    const { place } = item;
    if (item.kind === "table")
      return item.entries.has("inputs") ? item : { ...item, entries: new Map([...item.entries, ["inputs", given]]) };
    const local: Entry = { place, textual: true, value: item };
    return {
      kind: "table",
      place,
      entries: new Map([
        ["local", local],
        ["inputs", given],
      ]),
    };
  };
  return { kind: "list", place: include.place, items: items.map(add) };
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
