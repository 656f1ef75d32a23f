import { ScriptFailure } from "../../../src/errors.ts";
import { type KubernetesSettings, TABLE } from "./settings.ts";

type Ids = { readonly runAsUser?: unknown; readonly runAsGroup?: unknown } | undefined;

/** The user that the operator has set for a container. */
function configured({ podSecurityContext: pod }: KubernetesSettings, own: Ids): { user: boolean; group: boolean } {
  const { runAsUser, runAsGroup } = { ...pod, ...filledIn(own) };
  return { user: runAsUser !== undefined, group: runAsGroup !== undefined };
}

function filledIn(ids: Ids): object {
  return Object.fromEntries(Object.entries(ids ?? {}).filter(([, value]) => value !== undefined));
}

/**
 * `kubernetes.user` of a job's image or service, `uid` or `uid:gid`, as far as it is allowed.
 * @param what for sentences: `The job`, `The service postgres:17`
 * @param own the operator's settings for such containers: what is set there holds
 * @throws {ScriptFailure} it is none, or one that may not be
 */
export function userOf(
  settings: KubernetesSettings,
  asked: string | null,
  what: string,
  own: Ids,
): { readonly user: string | null; readonly said: string | null } {
  if (asked === null || asked.trim() === "") return { user: null, said: null };
  const [, uid = "", gid = ""] = /^\s*(\d{1,10})(?::(\d{1,10}))?\s*$/.exec(asked) ?? [];
  if (uid === "") {
    throw new ScriptFailure(
      `${what} is to run as user ${JSON.stringify(asked.slice(0, 100))} (kubernetes.user): expected a number, or two as in "1000:1000"`,
    );
  }
  const fixed = configured(settings, own);
  const ids = [
    { id: uid, fixed: fixed.user, list: settings.allowedUsers, key: "allowed_users", noun: "user" },
    { id: gid, fixed: fixed.group, list: settings.allowedGroups, key: "allowed_groups", noun: "group" },
  ];
  for (const { id, fixed: held, list, key, noun } of ids) {
    if (id === "" || held) continue;
    const number = Number(id);
    // A job may ask for root only where the operator has named it.
    if (list.some((each) => Number(each) === number) || (list.length === 0 && number !== 0)) continue;
    const allowed = list.length === 0 ? "all but 0" : list.join(", ");
    throw new ScriptFailure(`${what} is to run as ${noun} ${id}, and ${key} in [${TABLE}] allows ${allowed}`);
  }
  const said =
    fixed.user || (gid !== "" && fixed.group)
      ? `${what} asks for user ${asked.trim()}; what the runner's configuration says of that holds (security contexts in [${TABLE}])`
      : null;
  return { user: gid === "" ? String(Number(uid)) : `${Number(uid)}:${Number(gid)}`, said };
}
