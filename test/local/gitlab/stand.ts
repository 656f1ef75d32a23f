import { createHash } from "node:crypto";
import { compose } from "../../../src/local/gitlab/compose/compose.ts";
import type { Found, IncludeSources, SourceTree } from "../../../src/local/gitlab/compose/include-sources.ts";
import type { PipelineCase } from "../../../src/local/gitlab/decide/case.ts";
import { planPipeline } from "../../../src/local/gitlab/plan/pipeline.ts";
import type { Plan, PlannedJob } from "../../../src/local/gitlab/plan/plan.ts";
import { CiConfigError, createFindings } from "../../../src/local/gitlab/read/findings.ts";
import { nodeOf, type Table } from "../../../src/local/gitlab/read/node.ts";

export interface Given {
  /** The project's files besides the CI file. */
  readonly files?: Readonly<Record<string, string>>;
  readonly remotes?: Readonly<Record<string, string>>;
  readonly inputs?: Readonly<Record<string, unknown>>;
  readonly around?: Partial<PipelineCase>;
}

const CASE: PipelineCase = {
  source: "push",
  ref: "main",
  refType: "branch",
  predefined: new Map([
    ["CI_COMMIT_BRANCH", "main"],
    ["CI_PIPELINE_SOURCE", "push"],
  ]),
  given: new Map(),
  changed: [],
  comparisons: new Map(),
  files: [],
  project: "group/project",
};

export const MERGE_REQUEST: Partial<PipelineCase> = {
  source: "merge_request_event",
  refType: "merge_request",
  predefined: new Map([["CI_PIPELINE_SOURCE", "merge_request_event"]]),
};

export const TAG = (ref: string): Partial<PipelineCase> => ({
  ref,
  refType: "tag",
  predefined: new Map([
    ["CI_COMMIT_TAG", ref],
    ["CI_PIPELINE_SOURCE", "push"],
  ]),
  changed: null,
});

interface Outcome {
  readonly table: Table | undefined;
  readonly plan: Plan | undefined;
  readonly problems: readonly string[];
  readonly warnings: readonly string[];
}

/** Runs all steps over a text; the result has what they found. */
export async function tryPlan(text: string, given: Given = {}): Promise<Outcome> {
  const files = given.files ?? {};
  const own: SourceTree = {
    name: "",
    read: async (path) => files[path],
    paths: async () => Object.keys(files).sort(),
  };
  const away = <T>(): Promise<Found<T>> =>
    Promise.resolve({ problem: "is not cached, and --offline says not to fetch it" });
  const sources: IncludeSources = {
    own,
    project: away,
    template: away,
    component: away,
    remote: async (url) => {
      const found = given.remotes?.[url];
      return found === undefined ? await away() : { found };
    },
  };
  const findings = createFindings();
  const around = { ...CASE, files: Object.keys(files), ...given.around };
  const place = { file: "the command line", line: 1, column: 1 };
  const inputs = new Map(Object.entries(given.inputs ?? {}).map(([name, value]) => [name, nodeOf(value, place)]));
  let table: Table | undefined;
  let plan: Plan | undefined;
  let problems: string[] = [];
  try {
    table = await compose(
      { text, name: ".gitlab-ci.yml", inputs: { values: inputs, place } },
      { sources, around, findings },
    );
    plan = planPipeline(table, around, { blobOf: (path) => blobOf(files[path]) }, findings);
  } catch (error) {
    if (!(error instanceof CiConfigError)) throw error;
    problems = error.message.split("\n");
  }
  return { table, plan, problems, warnings: findings.warnings.map(({ text }) => text) };
}

function blobOf(content: string | undefined): string | undefined {
  if (content === undefined) return undefined;
  return createHash("sha1")
    .update(`blob ${Buffer.byteLength(content)}\0${content}`)
    .digest("hex");
}

export async function planOf(text: string, given?: Given): Promise<Plan> {
  const { plan, problems } = await tryPlan(text, given);
  if (plan === undefined) throw new Error(problems.join("\n"));
  return plan;
}

/** The job of that name. */
export async function jobOf(text: string, name: string, given?: Given): Promise<PlannedJob> {
  const plan = await planOf(text, given);
  const job = plan.jobs.find((one) => one.name === name);
  if (job === undefined) throw new Error(`no job "${name}" among ${plan.jobs.map((one) => one.name).join(", ")}`);
  return job;
}

export async function namesOf(text: string, given?: Given): Promise<string[]> {
  return (await planOf(text, given)).jobs.map(({ name }) => name);
}

/** The variables that a job's rules and scripts see, as far as they come from the file. */
export function variablesOf(job: PlannedJob): Record<string, string> {
  return Object.fromEntries(job.variables.map(({ key, value }) => [key, value]));
}
