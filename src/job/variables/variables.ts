import type { OpenVariable } from "../../executor.ts";
import type { Op } from "../../shell.ts";
import type { Job, Variable } from "../job.ts";
import { expandName, expandReferences, LONGEST_EXPANSION, parseReferences } from "./expand.ts";
import { openVariables } from "./open-variables.ts";
import { isHarmless, isRedirecting } from "./runner-variables.ts";

/** Linux holds `KEY=VALUE` and its final NUL in at most 32 pages. */
export const LARGEST_ENTRY_BYTES = 32 * 4096 - 1;
/**
 * Linux starts no program with more than 6 MiB of arguments and environment, and the usual limit of the stack makes that 2 MiB.
 * What values expand to is counted before it is all there.
 */
export const MOST_ENVIRONMENT_BYTES = 6 * 1024 * 1024;

/** This program, as jobs see it. */
export interface RunnerIdentity {
  readonly version: string;
  readonly revision: string;
  /** `linux/amd64`. */
  readonly architecture: string;
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

export interface VariableSources {
  readonly job: Job;
  /** `environment` of the `[[runners]]` entry. */
  readonly environment: readonly { readonly key: string; readonly value: string }[];
  readonly identity: RunnerIdentity;
  /** `CI_CONCURRENT_ID`. */
  readonly concurrentId: number;
  /** Jobs see the machine that the runner works on. */
  readonly shared: boolean;
  /** `null` before the environment stands: good for `expand` and `get`, not for scripts. */
  readonly place: Place | null;
}

/** Who wanted a variable: the operator is obeyed everywhere, a job only in its own scripts. */
type Origin = "operator" | "runner" | "job";

/** For whom variables are exported: the author's scripts, the runner's own commands, or scripts between these. */
export type Audience = "author" | "runner" | "hooks";

interface Definition {
  readonly key: string;
  readonly value: string;
  readonly file: boolean;
  /** `$NAME` in the value is replaced. */
  readonly expands: boolean;
  /** Its value is for the job's own scripts only. */
  readonly hidden: boolean;
  readonly origin: Origin;
}

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
  /** The same with names that come before the job's. */
  expandWith(own: ReadonlyMap<string, string>, text: string): string;
  /** All of them, expanded, with their secrets; a file's content as it is. */
  all(): Variable[];
  /** What others than the job's scripts may know. */
  open(): OpenVariable[];
  /** Instructions that export them. */
  exports(audience: Audience): Op[];
}

/**
 * Collect, expand and check. Later definitions win: the runner's entry in config.toml, the runner's defaults, the job, and
 * last what only the runner knows (`CI_PROJECT_DIR` and its like), which a job cannot change.
 * Values are expanded in one pass against the unexpanded list. A secret of AlloyCI and a file's content stay as they are.
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

  return {
    warnings,
    problem,
    get: resolve.get,
    expand: (text) => expandName(text, (name) => resolve.raw(name)),
    expandWith: (own, text) => expandReferences(text, (name) => own.get(name) ?? resolve.raw(name)),
    all: () => resolve.last(() => true).map(plainVariable),
    open: () => openVariables(accepted),
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

function define({ job, environment, identity, concurrentId, shared, place }: VariableSources): Definition[] {
  const ours = (key: string, value: string, file = false): Definition => ({
    key,
    value,
    file,
    expands: false,
    hidden: file,
    origin: "runner",
  });
  const { ca, cert, key } = job.serverTls;
  const image: Definition[] = job.image === null ? [] : [{ ...ours("CI_JOB_IMAGE", job.image.name), expands: true }];
  return [
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
        value: variable.value,
        file: variable.file,
        expands: !variable.raw && !variable.file && (job.dialect === "gitlab" || variable.public),
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

/** Names of strangers in a sentence: quoted, so that nothing in them passes for our own text, and not too many. */
function listNames(names: readonly string[]): string {
  const shown = names.slice(0, 20).map((name) => JSON.stringify(name.length > 100 ? `${name.slice(0, 100)}…` : name));
  return names.length > shown.length ? `${shown.join(", ")} and ${names.length - shown.length} more` : shown.join(", ");
}

interface Resolved {
  readonly key: string;
  readonly value: string;
  readonly file: boolean;
  readonly hidden: boolean;
  readonly op: Op;
}

interface Resolver {
  get(key: string): string | undefined;
  /** What a reference to `name` becomes: its last definition, unexpanded. */
  raw(name: string): string;
  /** The last definition of each name among those that `select` takes, in order. */
  last(select: (definition: Definition) => boolean): Resolved[];
  /** Why the values are too much together: they are empty from there on. */
  excess(): string | null;
}

function createResolver(definitions: readonly Definition[], tmpDir: string): Resolver {
  const byKey = new Map<string, Definition[]>();
  for (const definition of definitions) {
    const same = byKey.get(definition.key);
    if (same === undefined) byKey.set(definition.key, [definition]);
    else same.push(definition);
  }
  const pathOf = (key: string): string => `${tmpDir}/${fileNameOf(key)}`;
  const content = ({ key, value, file }: Definition): string => (file ? pathOf(key) : value);
  const raw = (name: string): string => {
    const last = byKey.get(name)?.at(-1);
    return last === undefined ? "" : content(last);
  };

  /** The value, in parts between which the variable's own value from outside stands. */
  const parts = (definition: Definition): string[] => {
    if (!definition.expands || !definition.value.includes("$")) return [definition.value];
    const same = byKey.get(definition.key) ?? [];
    const lower = same[same.indexOf(definition) - 1];
    const result = [""];
    let length = 0;
    const add = (text: string): void => {
      result[result.length - 1] += text;
      length += text.length;
    };
    for (const piece of parseReferences(definition.value)) {
      if ("text" in piece) add(piece.text);
      else if (piece.name !== definition.key) add(raw(piece.name));
      else if (lower === undefined) result.push("");
      else if (!lower.expands) add(content(lower));
      else
        for (const inner of parseReferences(lower.value)) {
          if ("text" in inner) add(inner.text);
          else if (inner.name === definition.key) result.push("");
          else add(raw(inner.name));
        }
      // A value this long is refused anyway.
      if (length > LONGEST_EXPANSION) break;
    }
    return result;
  };

  let bytes = 0;
  let excess: string | null = null;
  const counted = (key: string, around: readonly string[]): readonly string[] => {
    const its = around.reduce((sum, text) => sum + Buffer.byteLength(text), key.length + 2);
    if (excess === null && bytes + its <= MOST_ENVIRONMENT_BYTES) {
      bytes += its;
      return around;
    }
    excess ??= `The variables of this job are larger than ${MOST_ENVIRONMENT_BYTES} bytes together, which no environment holds; the one too many is ${listNames([key])} with ${its} bytes. Make large ones file variables, and mind what refers to them.`;
    return [""];
  };

  /** Each definition is expanded once, however many scripts export it. */
  const known = new Map<Definition, Resolved>();
  const resolve = (definition: Definition): Resolved => {
    const found = known.get(definition) ?? resolveNew(definition);
    known.set(definition, found);
    return found;
  };
  const resolveNew = (definition: Definition): Resolved => {
    const { key, value, file, hidden } = definition;
    if (file) {
      const path = pathOf(key);
      return { key, value: path, file, hidden, op: { op: "exportFile", name: key, path, content: value } };
    }
    const around = counted(key, excess === null ? parts(definition) : [""]);
    const joined = around.join("");
    const op: Op = { op: "export", name: key, value: joined, ...(around.length > 1 ? { around } : {}) };
    return { key, value: joined, file, hidden, op };
  };

  return {
    raw,
    excess: () => excess,
    get(key) {
      const last = byKey.get(key)?.at(-1);
      return last === undefined ? undefined : resolve(last).value;
    },
    last(select) {
      const found = new Map<string, Definition>();
      for (const definition of definitions) {
        if (!select(definition)) continue;
        found.delete(definition.key);
        found.set(definition.key, definition);
      }
      return [...found.values()].map(resolve);
    },
  };
}

/** A variable's name as the name of a file: never another directory, never hidden, never too long. */
function fileNameOf(key: string): string {
  const safe = key.replace(/[^A-Za-z0-9_-]/g, "_");
  return safe.length > 200 ? safe.slice(0, 200) : safe;
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
