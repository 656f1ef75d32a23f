/** Whom the programs of a container run as, in numbers. */
export interface Account {
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups. */
  readonly groups: readonly number[];
}

export const ROOT: Account = { uid: 0, gid: 0, groups: [] };

/** What an image's files say of accounts: the texts of /etc/passwd and /etc/group. */
export interface AccountFiles {
  readonly passwd: string;
  readonly group: string;
}

/** `uid`, `name`, `uid:gid`, `name:group`, as engines take it for a container's user. */
interface UserText {
  readonly user: string;
  readonly group: string;
}

function parse(text: string): UserText {
  const colon = text.indexOf(":");
  return colon < 0 ? { user: text, group: "" } : { user: text.slice(0, colon), group: text.slice(colon + 1) };
}

/** As engines read it: what can be a number is one. */
function numberOf(text: string): number | null {
  return /^[+-]?\d{1,10}$/.test(text) ? Number(text) : null;
}

/** Names no account but root, which needs no looking up: nobody is kept from anything. */
export function isRoot(text: string): boolean {
  const { user } = parse(text);
  return user === "" || user === "root" || numberOf(user) === 0;
}

/** All of it is said in numbers: no file of the image matters. */
export function inNumbers(text: string): Account | null {
  const [uid, gid] = [numberOf(parse(text).user), numberOf(parse(text).group)];
  return uid === null || gid === null ? null : { uid, gid, groups: [] };
}

/** The user is a name, and so whoever the image says it is. */
export function isNamed(text: string): boolean {
  return numberOf(parse(text).user) === null;
}

/**
 * Who `text` is by the files of an image. The rules are those of the engines: a number without an entry is taken as it is, its
 * group is 0 then.
 * @returns the name that nobody has
 */
export function lookUp(text: string, files: AccountFiles): Account | { readonly missing: string } {
  const { user, group } = parse(text);
  const uid = numberOf(user);
  const entry = rows(files.passwd).find((row) => (uid === null ? row[0] === user : numberOf(row[2] ?? "") === uid));
  if (entry === undefined && uid === null) return { missing: user };
  const found = { uid: uid ?? numberOf(entry?.[2] ?? "") ?? 0, gid: numberOf(entry?.[3] ?? "") ?? 0 };
  if (group !== "") {
    const gid = numberOf(group) ?? numberOf(rows(files.group).find(([name]) => name === group)?.[2] ?? "");
    return gid === null ? { missing: group } : { uid: found.uid, gid, groups: [] };
  }
  const name = entry?.[0];
  const groups = rows(files.group).flatMap((row) => {
    const gid = numberOf(row[2] ?? "");
    return name !== undefined && gid !== null && (row[3] ?? "").split(",").includes(name) ? [gid] : [];
  });
  return { ...found, groups: [...new Set(groups)].filter((gid) => gid !== found.gid) };
}

function rows(text: string): string[][] {
  return text.split("\n").flatMap((line) => (line.trim() === "" ? [] : [line.trim().split(":")]));
}
