/**
 * GitLab Runner's switches of behaviour. Some can be switched here, too; of the others this runner does one of both ways, and
 * whoever asks for the other one is told so.
 */

/** Those that can be switched, and what they are where nobody does. */
export const switches = {
  FF_TIMESTAMPS: true,
  FF_SCRIPT_SECTIONS: false,
  FF_USE_GIT_BUNDLE_URIS: true,
  FF_USE_GIT_NATIVE_CLONE: false,
  FF_USE_GIT_PROACTIVE_AUTH: false,
  FF_USE_GITALY_CORRELATION_ID: true,
  FF_MASK_ALL_DEFAULT_TOKENS: true,
  FF_ENABLE_JOB_INPUTS_INTERPOLATION: true,
  FF_SECRET_RESOLVING_FAILS_IF_MISSING: true,
  FF_DISABLE_AUTOMATIC_TOKEN_ROTATION: false,
  FF_ENABLE_JOB_CLEANUP: false,
  FF_HASH_CACHE_KEYS: false,
  FF_LOG_IMAGES_CONFIGURED_FOR_JOB: false,
  // Off in GitLab Runner. There are a dozen of stages at most here, whatever jobs call theirs, and dashboards show them.
  FF_EXPORT_HIGH_CARDINALITY_METRICS: true,
} as const;

export type FeatureFlag = keyof typeof switches;

/** What an entry says of how its jobs' tokens are kept is no business of a job. */
const OF_ENTRIES: ReadonlySet<string> = new Set(["FF_DISABLE_AUTOMATIC_TOKEN_ROTATION"]);

const words = (list: string): string[] => list.split(/\s+/);

const ALWAYS_ON = `FF_NETWORK_PER_BUILD FF_USE_DIRECT_DOWNLOAD FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY
  FF_CLEAN_UP_FAILED_CACHE_EXTRACT FF_POSIXLY_CORRECT_ESCAPES FF_GIT_URLS_WITHOUT_TOKENS FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR
  FF_USE_PARALLEL_ARTIFACT_TRANSFER FF_USE_PARALLEL_CACHE_TRANSFER FF_ENABLE_BASH_EXIT_CODE_CHECK FF_USE_FASTZIP
  FF_USE_POD_ACTIVE_DEADLINE_SECONDS FF_USE_ADVANCED_POD_SPEC_CONFIGURATION`;

const ALWAYS_OFF = `FF_USE_FLEETING_ACQUIRE_HEARTBEATS FF_USE_JOB_ROUTER FF_CONCRETE FF_SCRIPT_TO_STEP_MIGRATION FF_SUSPENDABLE_ENVIRONMENTS
  FF_PRINT_POD_EVENTS`;

/** Either way is fine: nothing here depends on them. */
const EITHER = `FF_RESOLVE_FULL_TLS_CHAIN FF_USE_INIT_WITH_DOCKER_EXECUTOR FF_USE_ADAPTIVE_REQUEST_CONCURRENCY
  FF_USE_DUMB_INIT_WITH_KUBERNETES_EXECUTOR FF_WAIT_FOR_POD_TO_BE_REACHABLE
  FF_USE_DOCKER_AUTOSCALER_DIAL_STDIO FF_USE_LEGACY_KUBERNETES_EXECUTION_STRATEGY FF_DISABLE_UMASK_FOR_KUBERNETES_EXECUTOR`;

/** Off unless somebody sets them, and then without an effect: what they change is not there. */
const NOTHING = `FF_USE_LEGACY_BASH_EVAL FF_USE_DYNAMIC_TRACE_FORCE_SEND_INTERVAL FF_DISABLE_POWERSHELL_STDIN
  FF_USE_POWERSHELL_PATH_RESOLVER FF_USE_NATIVE_CONTAINER_STOP`;

const known = new Map<string, boolean | null>([
  ...words(ALWAYS_ON).map((name) => [name, true] as const),
  ...words(`${ALWAYS_OFF} ${NOTHING}`).map((name) => [name, false] as const),
  ...[...Object.keys(switches), ...words(EITHER)].map((name) => [name, null] as const),
]);
const NOTHINGS: ReadonlySet<string> = new Set(words(NOTHING));
/** Of platforms that this runner has not, and of executors that do without. */
const FAMILIES = /^FF_(?:KUBERNETES|USE_POD|USE_WINDOWS|USE_LEGACY)_\w+$|^FF_\w+_FOR_KUBERNETES_EXECUTOR$/;

export const flagNames: readonly string[] = [...known.keys()];

/** Whether GitLab Runner has, or had, a flag of this name. */
export function isFlag(name: string): boolean {
  return known.has(name) || FAMILIES.test(name);
}

/** Why a flag that says this changes nothing; `null`: it is so here, it is obeyed, or nobody can see a difference. */
export function unheeded(name: string, value: boolean, by: "entry" | "job"): string | null {
  if (by === "job" && value && OF_ENTRIES.has(name)) return "counts in [runners.feature_flags] only";
  const here = known.get(name) ?? (known.has(name) ? null : false);
  if (here === null || value === here) return null;
  if (NOTHINGS.has(name)) return "there is nothing in this runner that it would change";
  return `what it stands for is always ${here ? "on" : "off"} in this runner`;
}
