import type { PipelineCase } from "../../decide/case.ts";
import { expandText, type Lookup, type RawVariable } from "../../decide/expand.ts";
import { onlyDecides } from "../../decide/only.ts";
import { describeRule, firstMatch } from "../../decide/rules.ts";
import { durationSeconds } from "../../read/duration.ts";
import type { Findings } from "../../read/findings.ts";
import { at, isNull, type Node, plain, textOf } from "../../read/node.ts";
import type { JobDefinition } from "../definitions/definitions.ts";
import type { Instance } from "../definitions/matrix.ts";
import { readVariables } from "../definitions/variables.ts";
import type { JobWhen } from "../plan.ts";

/** What became of an instance of a job. */
export type Decision =
  | { readonly absent: string }
  | {
      readonly absent: null;
      readonly when: JobWhen;
      readonly allowFailure: boolean | readonly number[];
      readonly startInSeconds: number | null;
      readonly variables: readonly RawVariable[];
      /** The matching rule's, where it has some. */
      readonly needs: Node | undefined;
      readonly rule: string | null;
    };

export interface DecisionOptions {
  readonly around: PipelineCase;
  /** Of the root, with those of the workflow's rule behind them; `inherit` is applied to them here. */
  readonly root: readonly RawVariable[];
  /** Whether the workflow has no rules: then jobs without rules are for branches and tags only. */
  readonly defaultOnly: boolean;
  /** Whether somebody has named the job, so that it runs whatever its rules say. */
  readonly forced: boolean;
  readonly findings: Findings;
}

/** Root variables that a job takes over. */
export function inherited(job: JobDefinition, root: readonly RawVariable[]): readonly RawVariable[] {
  const wanted = job.data.inherit?.variables;
  if (wanted === undefined || wanted === true) return root;
  return wanted === false ? [] : root.filter(({ key }) => wanted.includes(key));
}

/** Unexpanded values as rules see them, the strongest first. */
export function ruleLookup(
  around: PipelineCase,
  variables: readonly RawVariable[],
  more: ReadonlyMap<string, string> = new Map(),
): Lookup {
  const own = new Map(variables.map(({ key, value }) => [key, value]));
  return (name) => around.given.get(name) ?? own.get(name) ?? more.get(name) ?? around.predefined.get(name);
}

/** Whether an instance is in the pipeline, and how. */
export function decide(job: JobDefinition, instance: Instance, options: DecisionOptions): Decision {
  const decision = byItsRules(job, instance, options);
  if (decision.absent === null || !options.forced) return decision;
  const { absent } = decision;
  return {
    absent: null,
    when: "on_success",
    allowFailure: false,
    startInSeconds: null,
    variables: [],
    needs: undefined,
    rule: `${absent}; it runs as it was named`,
  };
}

function byItsRules(job: JobDefinition, instance: Instance, options: DecisionOptions): Decision {
  const { around, findings, defaultOnly } = options;
  const variables = [...inherited(job, options.root), ...job.variables, ...instance.variables];
  const lookup = ruleLookup(around, variables, jobVariables(job, instance, around, variables));
  const plainly = { startInSeconds: secondsOf(at(job.node, "start_in")), variables: [], needs: undefined, rule: null };
  const own = job.data.when ?? "on_success";
  const { allow_failure: written } = job.data;
  const allowed = typeof written === "object" ? codesOf(written.exit_codes) : (written ?? job.data.when === "manual");
  if (job.rules === null) {
    const why = onlyDecides(job.node, around, { lookup, defaultOnly, findings });
    return why === null ? { absent: null, when: own, allowFailure: allowed, ...plainly } : { absent: why };
  }
  // `rules:` is there and empty.
  if (job.rules.length === 0) return { absent: null, when: own, allowFailure: allowed, ...plainly };
  const match = firstMatch(job.rules, around, lookup, findings);
  if (match === undefined) return { absent: "no rule fits" };
  const { rule } = match;
  const when = textOf(at(rule, "when")) ?? own;
  const described = describeRule(rule, match.index);
  if (when === "never") return { absent: described };
  const forgiven = at(rule, "allow_failure");
  return {
    absent: null,
    when: whenOf(when),
    allowFailure: forgiven === undefined || isNull(forgiven) ? allowed : plain(forgiven) === true,
    startInSeconds: secondsOf(at(rule, "start_in")),
    variables: readVariables(at(rule, "variables"), "plain", job.name, findings),
    needs: at(rule, "needs"),
    rule: described,
  };
}

function whenOf(text: string): JobWhen {
  const known: readonly JobWhen[] = ["on_success", "on_failure", "always", "manual", "delayed"];
  return known.find((one) => one === text) ?? "on_success";
}

function codesOf(codes: number | readonly number[]): readonly number[] {
  return typeof codes === "number" ? [codes] : codes;
}

function secondsOf(node: Node | undefined): number | null {
  const text = textOf(node);
  return text === undefined ? null : (durationSeconds(text) ?? null);
}

/** Predefined ones that a job's rules may ask for. */
function jobVariables(
  job: JobDefinition,
  instance: Instance,
  around: PipelineCase,
  variables: readonly RawVariable[],
): ReadonlyMap<string, string> {
  const { environment } = job.data;
  const name = typeof environment === "object" ? environment.name : environment;
  const found = new Map([
    ["CI_JOB_NAME", instance.name],
    ["CI_JOB_STAGE", job.stage],
  ]);
  if (name !== undefined) found.set("CI_ENVIRONMENT_NAME", expandText(name, ruleLookup(around, variables), "empty"));
  return found;
}
