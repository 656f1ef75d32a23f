import { checkClauses } from "../../decide/case.ts";
import type { RawVariable } from "../../decide/expand.ts";
import type { Findings } from "../../read/findings.ts";
import { at, type Entry, isNull, type Node, type Place, type Table, textOf } from "../../read/node.ts";
import { type JobData, jobSchema, TRIGGER_KEYS } from "../schema/job.ts";
import { ruleSchema, workflowRuleSchema, workflowSchema } from "../schema/rules.ts";
import { DEFAULT_KEYS, defaultSchema, GLOBAL_KEYS } from "../schema/shared.ts";
import { checked } from "./check.ts";
import { flattened, scriptLines } from "./flatten.ts";
import { type JobInputs, withJobInputs } from "./job-inputs.ts";
import { readVariables } from "./variables.ts";

/** A job as the file describes it, with its defaults; not yet decided on. */
export interface JobDefinition {
  readonly name: string;
  /** The job's keywords, with those that it takes over. */
  readonly node: Table;
  readonly data: JobData;
  readonly stage: string;
  readonly beforeScript: readonly string[];
  readonly script: readonly string[];
  readonly afterScript: readonly string[];
  readonly beforeSources: readonly string[];
  readonly variables: readonly RawVariable[];
  /** `null`: it has none. */
  readonly rules: readonly Node[] | null;
  /** Where its name stands. */
  readonly place: Place;
}

/** All that a composed file says, checked part by part. */
export interface Definitions {
  readonly stages: readonly string[];
  readonly variables: readonly RawVariable[];
  readonly workflow: Node | undefined;
  /** `null`: it has none. */
  readonly workflowRules: readonly Node[] | null;
  readonly jobs: readonly JobDefinition[];
}

const TOP_KEYS = ["default", "include", "stages", "variables", "workflow", "spec", ...GLOBAL_KEYS];
const DEFAULT_STAGES = ["build", "test", "deploy"];
const MOST_NAME = 255;
/** Names that a job cannot have. */
const FORBIDDEN_NAMES = ["true", "false", "nil"];

/** @param given values for inputs of jobs */
export function readDefinitions(top: Table, findings: Findings, given: JobInputs = new Map()): Definitions {
  const stages = stagesOf(top, findings);
  const defaults = defaultsOf(top, findings);
  const variables = readVariables(at(top, "variables"), "root", "variables", findings);
  const workflow = at(top, "workflow");
  const workflowRules = workflow === undefined ? null : readWorkflow(workflow, findings);
  const jobs: JobDefinition[] = [];
  let visible = 0;
  for (const [name, entry] of top.entries) {
    const isHidden = name.startsWith(".") && entry.textual;
    if (isHidden) {
      if (isNull(entry.value)) findings.error(entry.place, `the hidden job "${name}" is empty`);
      continue;
    }
    if (
      TOP_KEYS.includes(name) &&
      entry.textual &&
      !(["default", "workflow"].includes(name) && at(entry.value, "script") !== undefined)
    )
      continue;
    visible++;
    const job = readJob(name, entry, { stages, defaults, given }, findings);
    if (job !== undefined) jobs.push(job);
  }
  for (const name of given.keys())
    if (!jobs.some((job) => job.name === name))
      findings.error({ file: "--input", line: 1, column: 1 }, `there is no job "${name}" that could get an input`);
  if (visible === 0) findings.error(top.place, "there should be at least one visible job in the file");
  return { stages, variables, workflow, workflowRules, jobs };
}

function stagesOf(top: Table, findings: Findings): string[] {
  const node = at(top, "stages");
  if (node === undefined || isNull(node)) return [".pre", ...DEFAULT_STAGES, ".post"];
  const parts = node.kind === "list" ? flattened(node) : undefined;
  const names = parts?.map(textOf);
  if (names === undefined || names.some((name) => name === undefined)) {
    findings.error(node.place, "stages should be a list of texts");
    return [".pre", ...DEFAULT_STAGES, ".post"];
  }
  const own = names.flatMap((name) => (name === undefined || name === ".pre" || name === ".post" ? [] : [name]));
  return [".pre", ...new Set(own), ".post"];
}

function defaultsOf(top: Table, findings: Findings): ReadonlyMap<string, Entry> {
  const node = at(top, "default");
  const entries = new Map<string, Entry>();
  if (node !== undefined && !isNull(node) && at(node, "script") === undefined) {
    const before = findings.errors.length;
    checked(defaultSchema, node, "default", findings);
    if (node.kind === "table" && findings.errors.length === before)
      for (const [key, entry] of node.entries) if (!isNull(entry.value)) entries.set(key, entry);
  }
  for (const key of GLOBAL_KEYS) {
    const global = top.entries.get(key);
    if (global === undefined || isNull(global.value)) continue;
    if (entries.has(key))
      findings.error(global.place, `${key} is defined twice: at the top of the file and in default`);
    const single: Table = { kind: "table", entries: new Map([[key, global]]), place: global.place };
    if (checked(defaultSchema, single, "the top of the file", findings) !== undefined) entries.set(key, global);
  }
  // GitLab accepts `default:timeout` and never uses it.
  entries.delete("timeout");
  return entries;
}

function readWorkflow(node: Node, findings: Findings): readonly Node[] | null {
  if (isNull(node)) return null;
  checked(workflowSchema, node, "workflow", findings);
  const rules = at(node, "rules");
  if (rules === undefined || isNull(rules) || rules.kind !== "list") return null;
  return readRules(rules, "workflow", workflowRuleSchema, findings);
}

function readRules(
  node: Node,
  name: string,
  schema: typeof ruleSchema | typeof workflowRuleSchema,
  findings: Findings,
): readonly Node[] {
  const rules = flattened(node);
  if (rules === undefined) {
    findings.error(node.place, `${name}: rules are nested deeper than 10 levels`);
    return [];
  }
  if (rules.length === 0) findings.error(node.place, `${name}: rules can't be blank`);
  for (const rule of rules) {
    if (rule.kind === "table" && rule.entries.size === 0) findings.error(rule.place, `${name}: a rule can't be blank`);
    if (schema === ruleSchema) checked(ruleSchema, rule, `${name}: a rule`, findings);
    else checked(workflowRuleSchema, rule, `${name}: a rule`, findings);
    checkClauses(rule, findings);
    checkDelay(rule, `${name}: a rule`, findings);
  }
  return rules;
}

function checkDelay(node: Node, name: string, findings: Findings): void {
  const startIn = at(node, "start_in");
  const delayed = textOf(at(node, "when")) === "delayed";
  if (delayed && (startIn === undefined || isNull(startIn)))
    findings.error(at(node, "when")?.place ?? node.place, `${name}: start_in must be set where when is delayed`);
  if (!delayed && startIn !== undefined && !isNull(startIn))
    findings.error(startIn.place, `${name}: start_in must be blank where when is not delayed`);
}

/** What the top of the file, and the command line, say to all jobs. */
interface Top {
  readonly stages: readonly string[];
  readonly defaults: ReadonlyMap<string, Entry>;
  readonly given: JobInputs;
}

function readJob(
  name: string,
  { place, textual, value }: Entry,
  { stages, defaults, given }: Top,
  findings: Findings,
): JobDefinition | undefined {
  if (!textual || name.trim() === "" || name.length > MOST_NAME || FORBIDDEN_NAMES.includes(name)) {
    const what = !textual
      ? "must be a text: put it into quotes"
      : name.trim() === ""
        ? "can't be blank"
        : name.length > MOST_NAME
          ? `is too long: at most ${MOST_NAME} characters`
          : "is not allowed";
    findings.error(place, `the name of the job ${JSON.stringify(name.slice(0, 60))} ${what}`);
    return undefined;
  }
  const works = ["script", "run", "trigger"].filter((key) => !isBlank(at(value, key)));
  const mirrors = at(at(value, "needs"), "pipeline") !== undefined;
  if (value.kind !== "table" || (works.length === 0 && !mirrors)) {
    findings.error(place, `jobs ${name} config should implement the script:, run:, or trigger: keyword`);
    return undefined;
  }
  if (works.includes("run") && ["script", "before_script", "after_script"].some((key) => !isBlank(at(value, key))))
    findings.error(place, `${name}: run stands alone, without script, before_script and after_script`);
  const triggers = works.includes("trigger");
  if (triggers)
    for (const [key, entry] of value.entries)
      if (!TRIGGER_KEYS.includes(key) && !isNull(entry.value))
        findings.error(
          entry.place,
          `${name}: contains the unknown key "${key}": a job with trigger has only ${TRIGGER_KEYS.join(", ")}`,
        );
  const node = withJobInputs(withDefaults(value, defaults, triggers), name, given, findings);
  const data = checked(jobSchema, node, name, findings);
  const rules = rulesOf(node, name, findings);
  if (data === undefined) return undefined;
  const stage = data.stage ?? "test";
  if (!stages.includes(stage)) {
    const at = node.entries.get("stage")?.value.place ?? place;
    findings.error(at, `${name}: chosen stage ${stage} does not exist; available stages are ${stages.join(", ")}`);
  }
  if (rules === null) checkDelay(node, name, findings);
  const lines = (key: string, inside: Node = node): string[] =>
    scriptLines(at(inside, key), `${name}: ${key}`, findings);
  return {
    name,
    node,
    data,
    stage,
    beforeScript: lines("before_script"),
    script: works.includes("run") ? stepLines(node) : lines("script"),
    afterScript: lines("after_script"),
    beforeSources: lines("pre_get_sources_script", at(node, "hooks") ?? { kind: "list", items: [], place }),
    variables: readVariables(at(node, "variables"), "job", name, findings),
    rules,
    place,
  };
}

function rulesOf(node: Table, name: string, findings: Findings): readonly Node[] | null {
  const rules = node.entries.get("rules");
  if (rules === undefined) return null;
  if (isNull(rules.value)) return [];
  if (rules.value.kind !== "list") return null;
  for (const key of ["only", "except", "start_in"]) {
    const other = node.entries.get(key);
    if (other !== undefined && !isNull(other.value))
      findings.error(other.place, `${name}: may not be used with rules: ${key}`);
  }
  return readRules(rules.value, name, ruleSchema, findings);
}

/** The steps that are scripts; other steps come from elsewhere. */
function stepLines(node: Table): string[] {
  const steps = at(node, "run");
  return steps?.kind === "list" ? steps.items.flatMap((step) => textOf(at(step, "script")) ?? []) : [];
}

function isBlank(node: Node | undefined): boolean {
  if (node === undefined || isNull(node)) return true;
  if (node.kind === "list") return node.items.length === 0;
  return node.kind === "scalar" ? node.text.trim() === "" : node.kind === "table" && node.entries.size === 0;
}

function withDefaults(job: Table, defaults: ReadonlyMap<string, Entry>, triggers: boolean): Table {
  const wanted = at(at(job, "inherit"), "default");
  const listed = wanted?.kind === "list" ? wanted.items.map(textOf) : undefined;
  if (wanted?.kind === "scalar" && wanted.value === false) return job;
  const entries = new Map(job.entries);
  for (const [key, entry] of defaults) {
    if (!DEFAULT_KEYS.includes(key) || (listed !== undefined && !listed.includes(key))) continue;
    if (triggers && key !== "interruptible") continue;
    if (isNull(entries.get(key)?.value)) entries.set(key, entry);
  }
  return { ...job, entries };
}
