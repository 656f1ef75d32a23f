import type { PipelineCase } from "../decide/case.ts";
import { expandText, type RawVariable } from "../decide/expand.ts";
import { firstMatch } from "../decide/rules.ts";
import type { Findings } from "../read/findings.ts";
import { at, type Table, textOf } from "../read/node.ts";
import { type Definitions, readDefinitions } from "./definitions/definitions.ts";
import { instancesOf } from "./definitions/matrix.ts";
import { checkJobs } from "./definitions/needs.ts";
import { readVariables } from "./definitions/variables.ts";
import { decide, ruleLookup } from "./jobs/decision.ts";
import { type Chosen, type PlanSurroundings, plannedJob } from "./jobs/planned-job.ts";
import type { AbsentJob, Plan } from "./plan.ts";

/**
 * The pipeline of a composed file for one case.
 * @throws {CiConfigError} GitLab would make none of it
 */
export function planPipeline(top: Table, around: PipelineCase, files: PlanSurroundings, findings: Findings): Plan {
  const definitions = readDefinitions(top, findings, files.jobInputs);
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
  const said = decideWorkflow(definitions, around, findings);
  findings.check();
  const workflow = said ?? (files.ignoreWorkflow === true ? { variables: [], cancelOnFailure: false } : null);
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
