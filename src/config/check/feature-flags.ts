import { isTable } from "../file/toml.ts";
import { nearest } from "./keys.ts";

/**
 * GitLab Runner's switches of behaviour. Some can be switched here, too; of the others this runner does one of both ways, and
 * an entry that asks for the other one is told so.
 */

const words = (list: string): string[] => list.split(/\s+/);

/** Obeyed, whichever way they are set. */
export const honouredFlags: readonly string[] =
  words(`FF_MASK_ALL_DEFAULT_TOKENS FF_DISABLE_AUTOMATIC_TOKEN_ROTATION FF_TIMESTAMPS FF_SCRIPT_SECTIONS
  FF_USE_GIT_BUNDLE_URIS FF_USE_GIT_NATIVE_CLONE FF_USE_GIT_PROACTIVE_AUTH FF_USE_GITALY_CORRELATION_ID FF_ENABLE_JOB_INPUTS_INTERPOLATION FF_SECRET_RESOLVING_FAILS_IF_MISSING`);

const ALWAYS_ON = `FF_NETWORK_PER_BUILD FF_USE_DIRECT_DOWNLOAD FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY
  FF_CLEAN_UP_FAILED_CACHE_EXTRACT FF_POSIXLY_CORRECT_ESCAPES FF_GIT_URLS_WITHOUT_TOKENS FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR
  FF_USE_PARALLEL_ARTIFACT_TRANSFER FF_USE_PARALLEL_CACHE_TRANSFER FF_ENABLE_BASH_EXIT_CODE_CHECK FF_USE_FASTZIP FF_EXPORT_HIGH_CARDINALITY_METRICS
  FF_USE_POD_ACTIVE_DEADLINE_SECONDS FF_USE_ADVANCED_POD_SPEC_CONFIGURATION`;

const ALWAYS_OFF = `FF_ENABLE_JOB_CLEANUP
  FF_HASH_CACHE_KEYS FF_LOG_IMAGES_CONFIGURED_FOR_JOB
  FF_USE_FLEETING_ACQUIRE_HEARTBEATS FF_USE_JOB_ROUTER FF_CONCRETE FF_SCRIPT_TO_STEP_MIGRATION FF_SUSPENDABLE_ENVIRONMENTS
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
  ...[...honouredFlags, ...words(EITHER)].map((name) => [name, null] as const),
]);
const NOTHINGS: ReadonlySet<string> = new Set(words(NOTHING));
/** Of platforms that this runner has not, and of executors that do without. */
const FAMILIES = /^FF_(?:KUBERNETES|USE_POD|USE_WINDOWS|USE_LEGACY)_\w+$|^FF_\w+_FOR_KUBERNETES_EXECUTOR$/;

/** Why flags of `[runners.feature_flags]` do not do what they say. */
export function featureFlagWarnings(flags: unknown): { readonly path: readonly string[]; readonly text: string }[] {
  if (flags === undefined) return [];
  if (!isTable(flags)) return [{ path: [], text: "has no effect: expected a table of flags, such as FF_NAME = true" }];
  return Object.entries(flags).flatMap(([name, value]) => {
    const text = warningOf(name, value);
    return text === undefined ? [] : [{ path: [name], text }];
  });
}

/** Those that say true or false. */
export function readFeatureFlags(flags: unknown): Readonly<Record<string, boolean>> {
  const pairs = isTable(flags) ? Object.entries(flags) : [];
  return Object.fromEntries(pairs.flatMap(([name, value]) => (typeof value === "boolean" ? [[name, value]] : [])));
}

function warningOf(name: string, value: unknown): string | undefined {
  const here = known.get(name) ?? (FAMILIES.test(name) ? false : undefined);
  if (known.has(name) && typeof value !== "boolean") return "has no effect: expected true or false";
  if (known.get(name) === null || value === here) return undefined;
  if (NOTHINGS.has(name)) return "has no effect: there is nothing in this runner that it would change";
  if (here !== undefined) return `has no effect: what it stands for is always ${here ? "on" : "off"} in this runner`;
  const meant = nearest(name, known.keys());
  return `is not a known feature flag${meant === undefined ? "." : `. Did you mean "${meant}"?`} It has no effect`;
}
