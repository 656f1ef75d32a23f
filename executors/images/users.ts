/**
 * Whether `asked` (`name`, `uid`, `name:group`, `uid:gid`) is one that the list has, however it is spelled: `0`, `00` and
 * `root` are one user, `1000:root` and `1000:0` one user with one group. An entry without a group allows none to be chosen. What an
 * image makes of a name is not known here: `builder` is not `1000`, whatever `/etc/passwd` says.
 */
export function isAllowedUser(asked: string, list: readonly string[]): boolean {
  const wanted = canonical(asked);
  return list.some((each) => canonical(each) === wanted);
}

function canonical(text: string): string {
  return text.trim().split(":").map(canonicalName).join(":");
}

function canonicalName(name: string): string {
  if (name === "root") return "0";
  // As engines read it: what can be a number is one.
  return /^[+-]?\d{1,10}$/.test(name) ? String(Number(name) + 0) : name;
}
