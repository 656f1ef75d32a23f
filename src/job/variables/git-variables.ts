import type { Op } from "../../shell.ts";
import { listNames } from "./resolve.ts";

/**
 * `job_git_variables` of an entry: which of a job's own words to git its sources are fetched with. `safe`: those that choose no
 * program; `all`: also `GIT_SSH_COMMAND` and its like, as GitLab's runner does.
 */
export type JobGitVariables = "none" | "safe" | "all";

/** Where a job's words to git come from, and how far they may go. */
export interface GitVariablesRequest {
  readonly mode: JobGitVariables;
  /** Sources are fetched by somebody else than who runs the job's script: no program of the job's choice runs there. */
  readonly apart: boolean;
  /** Those of `Environment.gitSettings`; they come first. */
  readonly settings?: readonly (readonly [key: string, value: string])[];
  /** `environment` of the entry. Its settings of git come before the job's, and stay where those are numbered anew. */
  readonly environment: readonly { readonly key: string; readonly value: string }[];
  /** Names of the job's own variables. */
  readonly names: readonly string[];
  /** Value of a variable. */
  get(key: string): string | undefined;
}

/** Settings that fetch from elsewhere, or otherwise, and start nothing. */
const SAFE_SETTING =
  /^(?:url\..*\.(?:insteadof|pushinsteadof)|http\.(?:.*\.)?(?:extraheader|proxy|postbuffer|lowspeedlimit|lowspeedtime|version|followredirects|useragent)|protocol\.version|fetch\.(?:parallel|negotiationalgorithm)|submodule\..*\.url|submodule\.fetchjobs|lfs\..*)$/i;
/** Of LFS: what names a program, its arguments, or a place on the disk. */
const UNSAFE_LFS =
  /^lfs\.(?:extension\..*|customtransfer\..*|.*\.(?:path|args|clean|smudge)|standalonetransferagent|.*\.standalonetransferagent|storage|gitdir)$/i;
/** Switches of LFS and numbers; with another value some would be paths. `…SKIP_SMUDGE` is a setting of the job. */
const LFS = /^GIT_LFS_(?!SKIP_SMUDGE$)\w+$/;
const SWITCH = /^(?:\d{1,9}|true|false)$/i;
const PAIR = /^GIT_CONFIG_(?:COUNT|KEY_\d+|VALUE_\d+)$/;
/** Means something to git's fetching; `GIT_SSL_NO_VERIFY` is `git_ssl_no_verify`'s. */
const WORDS =
  /^GIT_(?:SSH(?:_COMMAND|_VARIANT)?|SSL_(?!NO_VERIFY$)\w+|HTTP_\w+|PROXY_SSL_\w+|CONFIG_\w+|LFS_(?!SKIP_SMUDGE$)\w+|ALLOW_PROTOCOL|PROTOCOL_FROM_USER)$/;
const MOST_PAIRS = 1000;

/** Instructions that hand them over, and what is said of those that are not. */
export function gitVariables(request: GitVariablesRequest): {
  readonly ops: readonly Op[];
  readonly warning: string | null;
} {
  const { mode, apart, get } = request;
  const names = [...new Set(request.names)].filter((name) => WORDS.test(name));
  const all = mode === "all" && !apart;
  const refused: string[] = [];
  const ops: Op[] = [];
  const put = (name: string, value: string): void => void ops.push({ op: "export", name, value });
  for (const name of names) {
    if (PAIR.test(name)) continue;
    const value = get(name) ?? "";
    if (all || (mode !== "none" && LFS.test(name) && SWITCH.test(value.trim()))) put(name, value);
    else refused.push(name);
  }
  const pairs = names.includes("GIT_CONFIG_COUNT") ? pairsOf(get) : [];
  const taken = pairs.filter(([key]) => all || (mode !== "none" && SAFE_SETTING.test(key) && !UNSAFE_LFS.test(key)));
  refused.push(...pairs.filter((pair) => !taken.includes(pair)).map(([key]) => key));
  const operators = pairsOf((name) => request.environment.findLast(({ key }) => key === name)?.value);
  const numbered = taken.length === 0 ? [] : [...(request.settings ?? []), ...operators, ...taken];
  for (const [index, [key, value]] of numbered.entries()) {
    put(`GIT_CONFIG_KEY_${index}`, key);
    put(`GIT_CONFIG_VALUE_${index}`, value);
  }
  if (numbered.length > 0) put("GIT_CONFIG_COUNT", String(numbered.length));
  return { ops, warning: refused.length === 0 ? null : sentence(refused, mode, apart) };
}

function pairsOf(get: (key: string) => string | undefined): (readonly [string, string])[] {
  const count = Number(get("GIT_CONFIG_COUNT")?.trim() ?? "0");
  if (!Number.isInteger(count) || count < 0) return [];
  return Array.from({ length: Math.min(count, MOST_PAIRS) }).flatMap((_, index) => {
    const [key, value] = [get(`GIT_CONFIG_KEY_${index}`), get(`GIT_CONFIG_VALUE_${index}`)];
    return key === undefined || value === undefined ? [] : [[key, value] as const];
  });
}

function sentence(refused: readonly string[], mode: JobGitVariables, apart: boolean): string {
  const why =
    mode === "all" && apart
      ? "as they could run programs as another user than the job's"
      : `as job_git_variables = "${mode}" of this runner's entry has it`;
  return `The sources are fetched without ${listNames(refused)}, ${why}; the job's script has them.`;
}
