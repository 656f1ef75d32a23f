import { isWire, type Wire } from "../../coordinator/http/wire.ts";
import type { PipelineCase } from "../decide/case.ts";
import { expandText, expandVariables, type RawVariable } from "../decide/expand.ts";
import { firstMatch } from "../decide/rules.ts";
import { durationSeconds } from "../read/duration.ts";
import type { Findings } from "../read/findings.ts";
import { at, isNull, plain, type Table, textOf } from "../read/node.ts";
import { type Decision, decide, inherited, ruleLookup } from "./decision.ts";
import { type Definitions, type JobDefinition, readDefinitions } from "./definitions.ts";
import { type Instance, instancesOf } from "./matrix.ts";
import { checkJobs, meantBy, readNeeds, type WrittenNeed } from "./needs.ts";
import type { AbsentJob, Plan, PlannedJob, PlannedNeed, PlannedTrigger, Retry } from "./plan.ts";
import { artifactsOf, cachesOf } from "./transfers.ts";
import { readVariables } from "./variables.ts";

/** What a plan needs besides the file and its case. */
export interface PlanSurroundings {
  /** git's id of a file's content; `undefined`: there is none. */
  blobOf(path: string): string | undefined;
  /** Jobs that run whatever their rules say, as somebody named them. */
  forced?(name: string, group: string): boolean;
}

interface Chosen {
  readonly job: JobDefinition;
  readonly instance: Instance;
  readonly decision: Extract<Decision, { absent: null }>;
}

/**
 * The pipeline of a composed file for one case.
 * @throws {CiConfigError} GitLab would make none of it
 */
export function planPipeline(top: Table, around: PipelineCase, files: PlanSurroundings, findings: Findings): Plan {
  const definitions = readDefinitions(top, findings);
  checkJobs(definitions.jobs, definitions.stages, findings);
  findings.check();
  const none = (refusal: string, absent: readonly AbsentJob[] = []): Plan => ({
    stages: definitions.stages,
    jobs: [],
    absent,
    refusal,
    name: null,
    cancelOnFailure: false,
  });
  const workflow = decideWorkflow(definitions, around, findings);
  findings.check();
  if (workflow === null) return none("workflow:rules say no: GitLab would make no pipeline");

  const root = [...definitions.variables, ...workflow.variables];
  const defaultOnly = definitions.workflowRules === null;
  const instances = new Map(
    definitions.jobs.map((job) => [job.name, instancesOf(job.name, at(job.node, "parallel"), findings)]),
  );
  const chosen: Chosen[] = [];
  const absent: AbsentJob[] = [];
  for (const job of definitions.jobs)
    for (const instance of instances.get(job.name) ?? []) {
      const forced = files.forced?.(instance.name, job.name) ?? false;
      const decision = decide(job, instance, { around, root, defaultOnly, forced, findings });
      if (decision.absent === null) chosen.push({ job, instance, decision });
      else absent.push({ name: instance.name, stage: job.stage, why: decision.absent });
    }
  findings.check();
  if (chosen.length === 0) return none("no job is left: rules filtered all of them out", absent);
  if (chosen.every(({ job }) => job.stage === ".pre" || job.stage === ".post"))
    return none("only jobs in .pre and .post are left: GitLab makes no pipeline of them", absent);

  const there = new Set(chosen.map(({ instance }) => instance.name));
  const jobs = chosen.map((one) => plannedJob(one, { root, around, files, findings, instances, there }));
  findings.check();
  const ordered = definitions.stages.flatMap((stage) => jobs.filter((job) => job.stage === stage));
  const name = textOf(at(definitions.workflow, "name"));
  const shown = name === undefined ? "" : expandText(name, ruleLookup(around, root), "empty").trim();
  return {
    stages: definitions.stages.filter((stage) => ordered.some((job) => job.stage === stage)),
    jobs: ordered,
    absent,
    refusal: null,
    name: shown === "" ? null : shown,
    cancelOnFailure: workflow.cancelOnFailure,
  };
}

/** @returns `null`: there is no pipeline */
function decideWorkflow(
  { workflow, workflowRules, variables }: Definitions,
  around: PipelineCase,
  findings: Findings,
): { variables: readonly RawVariable[]; cancelOnFailure: boolean } | null {
  const cancels = (node: ReturnType<typeof at>): boolean | undefined => {
    const word = textOf(at(at(node, "auto_cancel"), "on_job_failure"));
    return word === undefined ? undefined : word === "all";
  };
  const cancelOnFailure = cancels(workflow) ?? false;
  if (workflowRules === null) return { variables: [], cancelOnFailure };
  const match = firstMatch(workflowRules, around, ruleLookup(around, variables), findings);
  if (match === undefined || textOf(at(match.rule, "when")) === "never") return null;
  return {
    variables: readVariables(at(match.rule, "variables"), "plain", "workflow", findings),
    cancelOnFailure: cancels(match.rule) ?? cancelOnFailure,
  };
}

interface Surroundings {
  readonly root: readonly RawVariable[];
  readonly around: PipelineCase;
  readonly files: PlanSurroundings;
  readonly findings: Findings;
  readonly instances: ReadonlyMap<string, readonly Instance[]>;
  /** Names of all instances that are in the pipeline. */
  readonly there: ReadonlySet<string>;
}

function plannedJob({ job, instance, decision }: Chosen, surroundings: Surroundings): PlannedJob {
  const { around, files, findings, root } = surroundings;
  const { data, node } = job;
  const ownVariables = [...job.variables, ...instance.variables, ...decision.variables];
  const variables = [...inherited(job, root), ...ownVariables];
  const expanded = expandVariables([
    ...variables,
    ...[...around.given].map(([key, value]) => ({ key, value, raw: false })),
  ]);
  if ("circle" in expanded)
    findings.error(
      at(node, "variables")?.place ?? job.place,
      `${job.name}: circular variable reference detected: ${expanded.circle.join(" → ")}`,
    );
  const lookup = (name: string): string | undefined =>
    around.given.get(name) ??
    ("values" in expanded ? expanded.values.get(name)?.value : undefined) ??
    around.predefined.get(name);
  const needs = plannedNeeds(job, instance, decision, surroundings);
  const { environment, dependencies } = data;
  const env = typeof environment === "string" ? { name: environment } : environment;
  const expandedText = (text: string): string => expandText(text, lookup, "empty");
  return {
    name: instance.name,
    group: job.name,
    stage: job.stage,
    when: decision.when,
    allowFailure: decision.allowFailure,
    needs: needs.needs,
    dependencies: dependencies === undefined ? null : dependencyNames(dependencies, surroundings),
    image: imageOf(data.image),
    services: (data.services ?? []).flatMap((service) => serviceOf(service)),
    script: [...job.beforeScript, ...job.script],
    afterScript: job.afterScript,
    beforeSources: job.beforeSources,
    ownVariables,
    variables,
    parallel: instance.parallel,
    retry: retryOf(data.retry),
    timeoutSeconds: data.timeout === undefined ? null : (durationSeconds(data.timeout) ?? null),
    startInSeconds: decision.startInSeconds,
    caches: cachesOf(data, around.files, files.blobOf),
    artifacts: artifactsOf(data, job.name),
    environment:
      env === undefined
        ? null
        : {
            name: expandedText(env.name),
            url: env.url === undefined ? null : expandText(env.url, lookup, "left"),
            action: env.action ?? "start",
            onStop: env.on_stop ?? null,
          },
    tags: (data.tags ?? []).map((tag) => expandText(tag, lookup, "left")),
    resourceGroup: data.resource_group === undefined ? null : expandedText(data.resource_group),
    interruptible: data.interruptible ?? false,
    coverage: data.coverage ?? null,
    trigger: triggerOf(data.trigger, expandedText),
    rule: decision.rule,
    leftOut: [...needs.foreign.map((what) => `artifacts of ${what} are on the server`), ...serverOnly(job)],
    place: job.place,
  };
}

function plannedNeeds(
  job: JobDefinition,
  instance: Instance,
  decision: Chosen["decision"],
  { files, findings, instances, there }: Surroundings,
): { needs: readonly PlannedNeed[] | null; foreign: readonly string[] } {
  const written = readNeeds(decision.needs ?? at(job.node, "needs"), job.name, findings);
  if (written === null) return { needs: null, foreign: [] };
  const exact = new Set([...instances.values()].flatMap((list) => list.map(({ name }) => name)));
  const needs = written.needs.flatMap((need): PlannedNeed[] => {
    const own = forInstance(need, instance);
    const meant = meantBy(own, instances, exact);
    const found = (meant ?? []).filter((name) => there.has(name));
    const missing = meant === undefined ? [need.job] : meant.filter((name) => !there.has(name));
    if (missing.length > 0 && !need.optional && files.forced === undefined)
      findings.error(
        need.place,
        `'${job.name}' job needs '${missing[0]}' job, but '${missing[0]}' does not exist in the pipeline: rules, only or except have kept it out. Add optional: true to the need if the job can do without`,
      );
    return found.map((name) => ({ job: name, artifacts: need.artifacts }));
  });
  return { needs, foreign: written.foreign };
}

/** `$[[ matrix.X ]]` in a need's matrix is the value of this very instance. */
function forInstance(need: WrittenNeed, { variables }: Instance): WrittenNeed {
  if (need.instances === null) return need;
  const values = new Map(variables.map(({ key, value }) => [key, value]));
  const instances = need.instances.map((name) =>
    name.replace(/\$\[\[\s*matrix\.(\w+)\s*\]\]/g, (whole, key: string) => values.get(key) ?? whole),
  );
  return { ...need, instances };
}

function dependencyNames(names: readonly string[], { instances }: Surroundings): string[] {
  return names.flatMap((name) => instances.get(name)?.map((instance) => instance.name) ?? [name]);
}

function retryOf(retry: JobDefinition["data"]["retry"]): Retry | null {
  if (retry === undefined) return null;
  if (typeof retry === "number") return retry === 0 ? null : { max: retry, when: ["always"], exitCodes: [] };
  const { max = 0, when, exit_codes: codes } = retry;
  if (max === 0) return null;
  const exitCodes = codes === undefined ? [] : Array.isArray(codes) ? codes : [codes];
  const words = when === undefined ? (exitCodes.length > 0 ? [] : ["always"]) : Array.isArray(when) ? when : [when];
  return { max, when: words, exitCodes };
}

function imageOf(image: JobDefinition["data"]["image"]): Wire | null {
  if (image === undefined) return null;
  if (typeof image === "string") return { name: image };
  return container(image);
}

function container({
  docker,
  kubernetes,
  pull_policy: policy,
  ports: _,
  ...rest
}: Exclude<NonNullable<JobDefinition["data"]["image"]>, string>): Wire {
  const options = { ...(docker === undefined ? {} : { docker }), ...(kubernetes === undefined ? {} : { kubernetes }) };
  return {
    ...rest,
    ...(policy === undefined ? {} : { pull_policy: Array.isArray(policy) ? policy : [policy] }),
    ...(Object.keys(options).length === 0 ? {} : { executor_opts: options }),
  };
}

function serviceOf(service: NonNullable<JobDefinition["data"]["services"]>[number]): Wire[] {
  if (typeof service === "string") return [{ name: service }];
  const { command, variables, ...rest } = service;
  return [
    {
      ...container(rest),
      ...(command === undefined ? {} : { command: Array.isArray(command) ? command.flat(10) : [command] }),
      ...(variables === undefined
        ? {}
        : {
            variables: Object.entries(variables).map(([key, value]) => ({
              key,
              value: value === null ? "" : String(value),
            })),
          }),
    },
  ];
}

function triggerOf(
  trigger: JobDefinition["data"]["trigger"],
  expanded: (text: string) => string,
): PlannedTrigger | null {
  if (trigger === undefined) return null;
  const table = typeof trigger === "string" ? { project: trigger } : trigger;
  return {
    project: table.project === undefined ? null : expanded(table.project),
    include: "include" in table ? table.include : undefined,
    strategy: ("strategy" in table ? table.strategy : undefined) ?? null,
    inputs: "inputs" in table ? table.inputs : undefined,
    forwardYaml: ("forward" in table ? table.forward?.yaml_variables : undefined) ?? true,
    forwardPipeline: ("forward" in table ? table.forward?.pipeline_variables : undefined) ?? false,
  };
}

/** What only a server does. */
function serverOnly({ data, node }: JobDefinition): string[] {
  const environment = isWire(data.environment) ? data.environment : undefined;
  const steps = at(node, "run");
  const foreign = steps?.kind === "list" && steps.items.some((step) => !isNull(at(step, "step")));
  return [
    ...(data.release === undefined
      ? []
      : [`the release ${String(plain(at(at(node, "release"), "tag_name") ?? node))} is not made`]),
    ...(data.secrets === undefined
      ? []
      : [`the secrets ${Object.keys(data.secrets).join(", ")} are not fetched: give them with --var`]),
    ...(data.id_tokens === undefined
      ? []
      : [`the tokens ${Object.keys(data.id_tokens).join(", ")} are not made: give them with --var`]),
    ...(environment?.kubernetes === undefined ? [] : ["the environment's cluster is not reached"]),
    ...(data.identity === undefined ? [] : ["its identity is not fetched"]),
    ...(data.pages === undefined || data.pages === false ? [] : ["pages are not published"]),
    ...(foreign ? ["steps of run that come from elsewhere are not run"] : []),
  ];
}
