import type { OpenVariable } from "../../executor/prepare.ts";
import type { Op } from "../../shell.ts";
import type { Job, Variable } from "../job.ts";
import { expandName, expandReferences } from "./expand.ts";
import { nestReferences } from "./nested.ts";
import { openVariables } from "./open-variables.ts";
import { createResolver, type Definition, listNames, type Resolved } from "./resolve.ts";
import { isHarmless, isRedirecting } from "./runner-variables.ts";

/** Linux holds `KEY=VALUE` and its final NUL in at most 32 pages. */
export const LARGEST_ENTRY_BYTES = 32 * 4096 - 1;

/** This program, as jobs see it. */
export interface RunnerIdentity {
  readonly version: string;
  readonly revision: string;
  /** `linux/amd64`. */
  readonly architecture: string;
  /** By which GitLab knows this machine, where it does. */
  readonly systemId?: string;
}

/** Where the job runs; known once its environment stands. */
export interface Place {
  readonly root: string;
  readonly tmpDir: string;
  readonly buildsDir: string;
  /** `CI_CONCURRENT_PROJECT_ID`. */
  readonly projectSlot: number;
  /** What the environment adds: these win over the job's own. */
  readonly added?: readonly Variable[];
  /** Can the job's shell hold a variable of this name? */
  acceptsName(name: string): boolean;
}

/** A feature flag as a variable. */
export interface FlagVariable {
  readonly key: string;
  readonly value: string;
  /** A job's variable of the name does not change it. */
  readonly fixed: boolean;
}

export interface VariableSources {
  readonly job: Job;
  /** `environment` of the `[[runners]]` entry. */
  readonly environment: readonly { readonly key: string; readonly value: string }[];
  readonly identity: RunnerIdentity;
  /** `CI_RUNNER_SHORT_TOKEN`; empty: there is none. */
  readonly shortToken: string;
  /** GitLab's switches of behaviour, as they are where no variable says otherwise. */
  readonly flags: readonly FlagVariable[];
  /** `CI_CONCURRENT_ID`. */
  readonly concurrentId: number;
  /** Jobs see the machine that the runner works on. */
  readonly shared: boolean;
  /** `null` before the environment stands: good for `expand` and `get`, not for scripts. */
  readonly place: Place | null;
}

/** For whom variables are exported: the author's scripts, the runner's own commands, or scripts between these. */
type Audience = "author" | "runner" | "hooks";

/** A job's variables in the order of their precedence, each name once. */
export interface JobVariables {
  /** What was left out or changed, one sentence each. */
  readonly warnings: readonly string[];
  /** Why the job cannot run with these variables. */
  readonly problem: string | null;
  /** Its value; the path for a file variable. */
  get(key: string): string | undefined;
  /**
   * Replace `$NAME` and `${NAME}` in what names something; unknown names are empty.
   * @throws {ScriptFailure} it becomes too long
   */
  expand(text: string): string;
  /** The same over the operator's own and the runner's, as they are written down: nothing that a job or its project says. */
  expandSettled(text: string): string;
  /** The same with names that come before the job's. */
  expandWith(own: ReadonlyMap<string, string>, text: string): string;
  /** All variables, expanded, with their secrets; a file's content as it is. */
  all(): Variable[];
  /** The same, a file by its path, without what would change which programs run beside the scripts. */
  withSecrets(): readonly { readonly key: string; readonly value: string }[];
  /** What others than the job's scripts may know. */
  open(): OpenVariable[];
  /** Names of the job's own ones. */
  names(): string[];
  /** Instructions that export them. */
  exports(audience: Audience): Op[];
}

/**
 * Collect, expand and check. Later definitions win: the runner's entry in config.toml, the runner's defaults, the job, and
 * last what only the runner knows (`CI_PROJECT_DIR` and its like), which a job cannot change.
 * Values are expanded in one pass against the unexpanded list, in which AlloyCI's public variables have those that they refer to
 * in place, as GitLab's server does before it sends a job. A secret of AlloyCI and a file's content stay as they are.
 */
export function createVariables(sources: VariableSources): JobVariables {
  const warnings: string[] = [];
  const definitions = dropNuls(define(sources), warnings);
  const accepted = definitions.filter(({ key }) => !isRefused(key, sources.place));
  const refused = new Set(definitions.map(({ key }) => key).filter((key) => isRefused(key, sources.place)));
  if (refused.size > 0) {
    warnings.push(`Variables whose names the job's shell cannot hold were left out: ${listNames([...refused])}.`);
  }
  const resolve = createResolver(accepted, sources.place?.tmpDir ?? "");
  const all = resolve.last(() => true);
  const problem = sizeProblem(all) ?? resolve.excess();

  // The image of the job is told by a variable of the runner's, and is the job's choice.
  const settled = new Map(
    accepted
      .filter(({ origin, hidden, expands }) => origin === "operator" || (origin === "runner" && !hidden && !expands))
      .map(({ key, value }) => [key, value]),
  );

  return {
    warnings,
    problem,
    get: resolve.get,
    expand: (text) => expandName(text, (name) => resolve.raw(name)),
    expandSettled: (text) => expandName(text, (name) => settled.get(name) ?? ""),
    expandWith: (own, text) => expandReferences(text, (name) => own.get(name) ?? resolve.raw(name)),
    all: () => resolve.last(() => true).map(plainVariable),
    withSecrets: () => resolve.last((definition) => reaches(definition, "hooks")),
    open: () => openVariables(accepted),
    names: () => accepted.flatMap(({ key, origin }) => (origin === "job" ? [key] : [])),
    exports: (audience) => resolve.last((definition) => reaches(definition, audience)).map((variable) => variable.op),
  };
}

function plainVariable({ key, value, op, hidden }: Resolved): Variable {
  const file = op.op === "exportFile";
  return { key, value: file ? op.content : value, public: !hidden, file, masked: false, raw: true };
}

function reaches({ origin, key, value }: Definition, audience: Audience): boolean {
  if (audience === "author" || origin !== "job") return true;
  return audience === "runner" ? isHarmless(key, value) : !isRedirecting(key, value);
}

function define(sources: VariableSources): Definition[] {
  const { job, environment, identity, shortToken, flags, concurrentId, shared, place } = sources;
  const ours = (key: string, value: string, file = false): Definition => ({
    key,
    value,
    file,
    expands: false,
    hidden: file,
    origin: "runner",
  });
  const { ca, cert, key } = job.serverTls;
  const nested = job.dialect === "alloy" ? nestReferences(job.variables) : null;
  const image: Definition[] = job.image === null ? [] : [{ ...ours("CI_JOB_IMAGE", job.image.name), expands: true }];
  return [
    ...(shortToken === "" ? [] : [ours("CI_RUNNER_SHORT_TOKEN", shortToken)]),
    ...flags.map(({ key, value }) => ours(key, value)),
    ...image,
    ...environment.map(
      ({ key, value }): Definition => ({ key, value, file: false, expands: true, hidden: false, origin: "operator" }),
    ),
    ours("CI_SERVER", "yes"),
    ...(ca === undefined ? [] : [ours("CI_SERVER_TLS_CA_FILE", ca, true)]),
    ...(cert === undefined || key === undefined
      ? []
      : [ours("CI_SERVER_TLS_CERT_FILE", cert, true), ours("CI_SERVER_TLS_KEY_FILE", key, true)]),
    ...job.variables.map(
      (variable): Definition => ({
        key: variable.key,
        value: nested?.valueOf(variable) ?? variable.value,
        file: variable.file,
        expands:
          !variable.raw && !variable.file && (nested === null || (variable.public && !nested.isCircular(variable))),
        hidden: !variable.public || variable.masked || variable.file || variable.value.includes(job.token),
        origin: "job",
      }),
    ),
    ...(place?.added ?? []).map(
      ({ key, value, file, raw, public: open, masked }): Definition => ({
        key,
        value,
        file,
        expands: !raw && !file,
        hidden: !open || masked || file,
        origin: "operator",
      }),
    ),
    ...(place === null
      ? []
      : [
          ours("CI_PROJECT_DIR", place.root),
          ours("CI_BUILDS_DIR", place.buildsDir),
          ours("RUNNER_TEMP_PROJECT_DIR", place.tmpDir),
          ours("CI_CONCURRENT_PROJECT_ID", String(place.projectSlot)),
        ]),
    ...flags.flatMap(({ key, value, fixed }) => (fixed ? [ours(key, value)] : [])),
    ours("CI_CONCURRENT_ID", String(concurrentId)),
    ours("CI_JOB_TIMEOUT", String(Math.ceil(job.timeoutMs / 1000))),
    ours("CI_RUNNER_VERSION", identity.version),
    ours("CI_RUNNER_REVISION", identity.revision),
    ours("CI_RUNNER_EXECUTABLE_ARCH", identity.architecture),
    ours(shared ? "CI_SHARED_ENVIRONMENT" : "CI_DISPOSABLE_ENVIRONMENT", "true"),
  ];
}

/** An environment holds no NUL and no half characters; a silent cut would be worse than a changed value. */
function dropNuls(definitions: readonly Definition[], warnings: string[]): Definition[] {
  const changed = new Set<string>();
  const clean = definitions.map((definition) => {
    const value = definition.value.toWellFormed();
    if (!value.includes("\0")) return { ...definition, value };
    changed.add(definition.key);
    return { ...definition, value: value.replaceAll("\0", "") };
  });
  if (changed.size > 0) warnings.push(`NUL characters were removed from the values of ${listNames([...changed])}.`);
  return clean;
}

/** `ALLOY_RUNNER_…` marks the processes of a job; a job cannot put on somebody else's mark. */
function isRefused(key: string, place: Place | null): boolean {
  if (key === "" || /[=\0]/.test(key) || key.startsWith("ALLOY_RUNNER_")) return true;
  return place !== null && !place.acceptsName(key);
}

function sizeProblem(variables: readonly Resolved[]): string | null {
  const tooLarge = variables.filter(({ key, value, file }) => {
    // A character is at most three bytes: most values need no counting.
    if (file || key.length + value.length < LARGEST_ENTRY_BYTES / 3) return false;
    return Buffer.byteLength(key) + 1 + Buffer.byteLength(value) > LARGEST_ENTRY_BYTES;
  });
  if (tooLarge.length === 0) return null;
  const names = listNames(tooLarge.map(({ key }) => key));
  return `An environment cannot hold a value as large as that of ${names}: name and value may have ${LARGEST_ENTRY_BYTES - 1} bytes together. Make it a file variable.`;
}
