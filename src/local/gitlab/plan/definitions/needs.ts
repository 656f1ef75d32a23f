import type { Findings } from "../../read/findings.ts";
import { at, type Node, type Place, plain, textOf } from "../../read/node.ts";
import type { UpstreamNeed } from "../plan.ts";
import type { JobDefinition } from "./definitions.ts";
import { type Instance, instancesOf, matrixRows } from "./matrix.ts";

/** A need as it is written: of a job, or of some of its instances. */
export interface WrittenNeed {
  readonly job: string;
  readonly artifacts: boolean;
  readonly optional: boolean;
  /** Names of the instances that are meant; `null`: all. */
  readonly instances: readonly string[] | null;
  readonly place: Place;
}

/** What a job's needs ask of servers only. */
export interface Needs {
  readonly needs: readonly WrittenNeed[];
  readonly foreign: readonly string[];
  readonly upstream: readonly UpstreamNeed[];
}

/**
 * @returns `null`: the job's stage decides
 * @returns `null`: stages decide
 */
export function readNeeds(node: Node | undefined, name: string, findings: Findings): Needs | null {
  if (node === undefined || node.kind === "scalar") return null;
  if (node.kind === "table")
    return { needs: [], foreign: [`the pipeline ${textOf(at(node, "pipeline")) ?? ""}`], upstream: [] };
  if (node.kind !== "list") return null;
  const needs: WrittenNeed[] = [];
  const foreign: string[] = [];
  const upstream: UpstreamNeed[] = [];
  for (const item of node.items) {
    const direct = textOf(item);
    const project = textOf(at(item, "project"));
    const pipeline = textOf(at(item, "pipeline"));
    const job = direct ?? textOf(at(item, "job"));
    const wanted = at(item, "artifacts") === undefined || plain(at(item, "artifacts") ?? item) !== false;
    if (project !== undefined) foreign.push(`${job ?? "a job"} of ${project}`);
    else if (pipeline !== undefined && job !== undefined) {
      if (wanted) upstream.push({ pipeline, job });
    } else if (pipeline !== undefined) foreign.push(`the pipeline ${pipeline}`);
    else if (job === undefined) findings.error(item.place, `${name}: a need must have job: the name of a job`);
    else {
      const matrix = at(at(item, "parallel"), "matrix");
      const rows = matrix === undefined ? null : matrixRows(matrix, name, findings);
      needs.push({
        job,
        artifacts: wanted,
        optional: plain(at(item, "optional") ?? item) === true,
        instances: rows === null ? null : rows.map((row) => `${job}: [${row.map(({ value }) => value).join(", ")}]`),
        place: item.place,
      });
    }
  }
  return { needs, foreign, upstream };
}

/** Instances that a need means, of those there are; `undefined`: there is no such job in the file. */
export function meantBy(
  need: WrittenNeed,
  instances: ReadonlyMap<string, readonly Instance[]>,
  exact: ReadonlySet<string>,
): readonly string[] | undefined {
  const own = instances.get(need.job);
  if (own === undefined) return exact.has(need.job) ? [need.job] : undefined;
  const names = own.map(({ name }) => name);
  return need.instances === null ? names : names.filter((name) => need.instances?.includes(name));
}

const MOST_NEEDS = 50;

/** What of needs, dependencies and `on_stop` can be told from the file alone. */
export function checkJobs(jobs: readonly JobDefinition[], stages: readonly string[], findings: Findings): void {
  const byName = new Map(jobs.map((job) => [job.name, job]));
  const instances = new Map(jobs.map((job) => [job.name, instancesOf(job.name, at(job.node, "parallel"), findings)]));
  const groups = new Map([...instances].flatMap(([group, list]) => list.map(({ name }) => [name, group] as const)));
  const exact = new Set(groups.keys());
  const position = (job: JobDefinition): number => stages.indexOf(job.stage);
  const edges = new Map<string, readonly string[]>();
  for (const job of jobs) {
    const written = readNeeds(at(job.node, "needs"), job.name, findings);
    const seen = new Set<string>();
    const targets: string[] = [];
    let count = 0;
    for (const need of written?.needs ?? []) {
      const meant = meantBy(need, instances, exact);
      const target = byName.get(need.job) ?? byName.get(groups.get(need.job) ?? "");
      const key = JSON.stringify([need.job, need.instances]);
      if (seen.has(key)) findings.error(need.place, `${job.name}: the need "${need.job}" is duplicated`);
      seen.add(key);
      if (target === undefined || meant === undefined) {
        if (!need.optional) findings.error(need.place, `${job.name} job: undefined need: ${need.job}`);
        continue;
      }
      count += meant.length;
      if (need.instances !== null && meant.length === 0 && !need.optional)
        findings.error(need.place, `${job.name} job: undefined need: ${need.instances.join(", ")}`);
      if (position(target) > position(job))
        findings.error(need.place, `${job.name} job: need ${need.job} is not defined in current or prior stages`);
      targets.push(target.name);
    }
    if (count > MOST_NEEDS)
      findings.error(
        at(job.node, "needs")?.place ?? job.place,
        `${job.name}: it has ${count} needs, and the limit is ${MOST_NEEDS}`,
      );
    edges.set(job.name, targets);
    checkDependencies(job, written?.needs, { byName, groups, position }, findings);
    checkStop(job, byName, findings);
  }
  checkCircles(jobs, edges, findings);
}

interface Index {
  readonly byName: ReadonlyMap<string, JobDefinition>;
  /** Instance → job. */
  readonly groups: ReadonlyMap<string, string>;
  position(job: JobDefinition): number;
}

function checkDependencies(
  job: JobDefinition,
  needs: readonly WrittenNeed[] | undefined,
  { byName, groups, position }: Index,
  findings: Findings,
): void {
  const node = at(job.node, "dependencies");
  for (const item of node?.kind === "list" ? node.items : []) {
    const name = textOf(item) ?? "";
    const target = byName.get(name) ?? byName.get(groups.get(name) ?? "");
    if (target === undefined) findings.error(item.place, `${job.name} job: undefined dependency: ${name}`);
    else if (position(target) > position(job))
      findings.error(item.place, `${job.name} job: dependency ${name} is not defined in current or prior stages`);
    else if (needs !== undefined && !needs.some((need) => need.job === name))
      findings.error(item.place, `${job.name} job: dependency ${name} should be part of needs`);
  }
}

function checkStop(job: JobDefinition, byName: ReadonlyMap<string, JobDefinition>, findings: Findings): void {
  const { environment } = job.data;
  if (typeof environment !== "object" || environment.on_stop === undefined) return;
  const target = byName.get(environment.on_stop);
  const other = target?.data.environment;
  const place = at(at(job.node, "environment"), "on_stop")?.place ?? job.place;
  const what = `${job.name} job: on_stop job ${environment.on_stop}`;
  if (target === undefined) findings.error(place, `${what} is not defined`);
  else if (other === undefined) findings.error(place, `${what} does not have environment defined`);
  else if ((typeof other === "string" ? other : other.name) !== environment.name)
    findings.error(place, `${what} have different environment name`);
  else if (typeof other === "string" || other.action !== "stop")
    findings.error(place, `${what} needs to have action stop defined`);
}

function checkCircles(
  jobs: readonly JobDefinition[],
  edges: ReadonlyMap<string, readonly string[]>,
  findings: Findings,
): void {
  const done = new Set<string>();
  const told = new Set<string>();
  const path: string[] = [];
  const walk = (name: string): void => {
    const begun = path.indexOf(name);
    if (begun >= 0) {
      const circle = path.slice(begun);
      const key = circle.toSorted().join("\n");
      const place = jobs.find((job) => job.name === circle[0])?.node;
      if (!told.has(key) && place !== undefined)
        findings.error(
          at(place, "needs")?.place ?? place.place,
          `the needs of these jobs are circular: ${[...circle, name].join(" → ")}`,
        );
      told.add(key);
      return;
    }
    if (done.has(name)) return;
    path.push(name);
    for (const next of edges.get(name) ?? []) walk(next);
    path.pop();
    done.add(name);
  };
  for (const job of jobs) walk(job.name);
}
