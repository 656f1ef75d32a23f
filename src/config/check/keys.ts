import type { ExecutorCatalog } from "../../executor/executor.ts";

/** Which keys config.toml can have, for the sake of good warnings: here, in the program it replaces, in GitLab Runner. */

/**
 * Keys of GitLab Runner by table, lower case (keys match whatever their case). Those of executors' tables come with the
 * executors. Keys that are supported are in the schemas; being listed twice does no harm.
 */
const GITLAB_KEYS: Readonly<Record<string, string>> = {
  "": `labels use_slot_cgroups slot_cgroup_template experimental machine log_syslog`,
  runners: `docker ssh parallels virtualbox machine kubernetes cache custom autoscaler instance
    referees artifact labels experimental feature_flags clean_git_config safe_directory_checkout
    job_status_final_update_retry_limit use_slot_cgroups slot_cgroup_template proxy_exec step_runner_image
    suspend_pvc_size system_id id token_obtained_at token_expires_at`,
  "runners.cache": `type path shared s3 gcs azure maxuploadedarchivesize serveraddress accesskey secretkey bucketname
    bucketlocation insecure`,
  "runners.cache.s3": `serveraddress accesskey secretkey sessiontoken bucketname bucketlocation insecure
    authenticationtype serversideencryption serversideencryptionkeyid pathstyle dualstack accelerate rolearn
    uploadrolearn assumerolemaxconcurrency disableassumerolecredentialscaching`,
  "runners.cache.gcs": "bucketname credentialsfile accessid privatekey universedomain",
  "runners.cache.azure": "accountname accountkey containername storagedomain",
};

/** Tables (`""`, `runners`, `runners.docker`) → the keys that other runners of the family have there, lower case. */
export type ForeignKeys = ReadonlyMap<string, ReadonlySet<string>>;

export function foreignKeysOf({ words, absent }: Pick<ExecutorCatalog, "words" | "absent">): ForeignKeys {
  const ofExecutors = [...words.map(({ foreignKeys }) => foreignKeys), absent.keys]
    .flatMap((tables) => Object.entries(tables))
    .map(([table, keys]) => [`runners.${table}`, keys] as const);
  return new Map(
    [...Object.entries(GITLAB_KEYS), ...ofExecutors].map(([table, keys]) => [table, new Set(keys.split(/\s+/))]),
  );
}

export interface UnknownKey {
  /** Dotted path of its table without indexes: `""`, `runners`, `runners.docker`. */
  readonly table: string;
  /** As written. */
  readonly key: string;
  /** Keys of that table which have an effect. */
  readonly supported: readonly string[];
  /** Keys of the global section and of `[[runners]]`. */
  readonly globalKeys: readonly string[];
  readonly runnerKeys: readonly string[];
  readonly foreign: ForeignKeys;
}

/** Why a key has no effect, and what was probably meant. */
export function explainUnknownKey({ table, key, supported, globalKeys, runnerKeys, foreign }: UnknownKey): string {
  const folded = key.toLowerCase();
  const inRunner = table !== "";
  if (foreign.get(table)?.has(folded)) return "is known to GitLab Runner, not supported here (yet). It has no effect";
  if (inRunner && globalKeys.includes(folded)) {
    return `is a global key, but it stands below ${header(table)} and so belongs to that table, where it has no effect. Move it to the top, above the first [[runners]]`;
  }
  if (table !== "runners" && runnerKeys.includes(folded)) {
    return table === ""
      ? "is a key of [[runners]], but it stands above them all. Move it below the [[runners]] header it is meant for"
      : `is a key of [[runners]], but it stands below ${header(table)}. Move it up, directly below its [[runners]] header`;
  }
  const meant = nearest(key, [...supported, ...(foreign.get(table) ?? [])]);
  if (meant !== undefined) return `is not a known key. Did you mean "${meant}"? It has no effect`;
  const elsewhere = inRunner ? [...foreign].find(([name, keys]) => name !== "" && keys.has(folded))?.[0] : undefined;
  if (elsewhere !== undefined)
    return `is no key of ${header(table)}, but one of ${header(elsewhere)}. It has no effect`;
  return "is not a known key. It has no effect";
}

/** How a table is written: `[[runners]]`, `[runners.docker]`. */
function header(table: string): string {
  return table === "runners" ? "[[runners]]" : `[${table}]`;
}

/** Is there a table of this name below `[[runners]]`, in any runner of the family? */
export function isForeignTable(name: string, foreign: ForeignKeys): boolean {
  return foreign.has(`runners.${name.toLowerCase()}`);
}

/** The candidate that `word` is most likely a misspelling of. */
export function nearest(word: string, candidates: Iterable<string>): string | undefined {
  const folded = word.toLowerCase();
  if (folded.length > 60) return undefined;
  const most = folded.length <= 3 ? 1 : folded.length <= 7 ? 2 : 3;
  let best: { readonly name: string; readonly distance: number } | undefined;
  for (const name of candidates) {
    const other = name.toLowerCase();
    if (Math.abs(other.length - folded.length) > most) continue;
    // `tls_ca_file` for `tls-ca-file`, `checkInterval` for `check_interval`: the same word in another fashion.
    const same = other.replace(/[-_]/g, "") === folded.replace(/[-_]/g, "");
    const found = same ? 0 : distance(folded, other);
    if (found <= most && found < other.length && (best === undefined || found < best.distance)) {
      best = { name, distance: found };
    }
  }
  return best?.name;
}

/** Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`. */
function distance(a: string, b: string): number {
  let before: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      let cost = Math.min((previous[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (previous[j - 1] ?? 0) + same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        cost = Math.min(cost, (before[j - 2] ?? 0) + 1);
      }
      row.push(cost);
    }
    before = previous;
    previous = row;
  }
  return previous[b.length] ?? 0;
}
