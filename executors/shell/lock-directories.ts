import { homedir, hostname, userInfo } from "node:os";
import { join } from "node:path";

/** The home that the system's user database names, so that all runners of an account agree, whatever HOME is; `null`: none. */
function homeOfAccount(): string | null {
  try {
    return userInfo().homedir || homedir() || null;
  } catch {
    return null; // a bare number, as in containers
  }
}

/**
 * Where the claims of all runners of this account may be, the first that can be used. None is in a place such as /tmp while
 * there is another: whoever makes a name first there, keeps it.
 * @param scratchDir last resort: the runner's own, which no other runner looks into
 */
export function lockDirectories(scratchDir: string, ephemeral: boolean): string[] {
  const own = join(scratchDir, "locks");
  // Nothing may stay, and working copies lie in a directory of this run alone.
  if (ephemeral) return [own];
  const uid = process.geteuid?.() ?? 0;
  if (uid === 0) return [process.platform === "linux" ? "/run/alloy-runner" : "/var/run/alloy-runner", own];
  const home = homeOfAccount();
  const runtime = process.env.XDG_RUNTIME_DIR;
  return [
    // A home may be shared by machines, whose processes cannot be looked up from here.
    ...(home === null ? [] : [join(home, ".local/state", `alloy-runner-locks-${hostname().replace(/[^\w.-]/g, "_")}`)]),
    ...(runtime ? [join(runtime, "alloy-runner")] : []),
    `/tmp/alloy-runner-${uid}`,
    own,
  ];
}
