import { isWire } from "../../../coordinator/http/wire.ts";
import type { PipelineCase } from "../../decide/case.ts";
import { expandText, expandVariables, type RawVariable } from "../../decide/expand.ts";
import { durationSeconds } from "../../read/duration.ts";
import type { Findings } from "../../read/findings.ts";
import { at, isNull, plain } from "../../read/node.ts";
import type { JobDefinition } from "../definitions/definitions.ts";
import type { JobInputs } from "../definitions/job-inputs.ts";
import type { Instance } from "../definitions/matrix.ts";
import { meantBy, readNeeds, type WrittenNeed } from "../definitions/needs.ts";
import type { PlannedJob, PlannedNeed, UpstreamNeed } from "../plan.ts";
import { type Decision, inherited } from "./decision.ts";
import { imageOf, retryOf, serviceOf, triggerOf } from "./keywords.ts";
import { artifactsOf, cachesOf } from "./transfers.ts";

/** What a plan needs besides the file and its case. */
export interface PlanSurroundings {
  /** git's id of a file's content; `undefined`: there is none. */
  blobOf(path: string): string | undefined;
  /** Jobs that run whatever their rules say, as somebody named them. */
  forced?(name: string, group: string): boolean;
  /** Values for inputs of jobs. */
  readonly jobInputs?: JobInputs;
  /** Make a pipeline although the workflow says no. */
  readonly ignoreWorkflow?: boolean;
}

/** A job that is in the pipeline. */
export interface Chosen {
  readonly job: JobDefinition;
  readonly instance: Instance;
  readonly decision: Extract<Decision, { absent: null }>;
}

/** What its planned form depends on besides. */
export interface Surroundings {
  readonly root: readonly RawVariable[];
  readonly around: PipelineCase;
  readonly files: PlanSurroundings;
  readonly findings: Findings;
  readonly instances: ReadonlyMap<string, readonly Instance[]>;
  /** Names of all instances that are in the pipeline. */
  readonly there: ReadonlySet<string>;
}

/** A job as it is to be run: with what it needs, gets and leaves to a server. */
export function plannedJob({ job, instance, decision }: Chosen, surroundings: Surroundings): PlannedJob {
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
    blocks: decision.allowFailure !== true,
    needs: needs.needs,
    upstream: needs.upstream,
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
            tier: env.deployment_tier ?? null,
            onStop: env.on_stop ?? null,
          },
    tags: (data.tags ?? []).map((tag) => expandText(tag, lookup, "left")),
    resourceGroup: data.resource_group === undefined ? null : expandedText(data.resource_group),
    interruptible: data.interruptible ?? false,
    coverage: data.coverage ?? null,
    trigger: triggerOf(data.trigger, at(node, "trigger"), expandedText),
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
): { needs: readonly PlannedNeed[] | null; foreign: readonly string[]; upstream: readonly UpstreamNeed[] } {
  const written = readNeeds(decision.needs ?? at(job.node, "needs"), job.name, findings);
  if (written === null) return { needs: null, foreign: [], upstream: [] };
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
  return { needs, foreign: written.foreign, upstream: written.upstream };
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
