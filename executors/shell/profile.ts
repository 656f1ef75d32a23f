import { execFile } from "node:child_process";
import { promisify } from "node:util";
import type { Argv } from "../../src/shell.ts";

/** What a login shell's profiles change that the runner's own scripts need, too: where programs are, and proxies. */
const LEARNED = /^(PATH|(https?|ftp|all|no)_proxy)$/i;

/** Profiles are read again when a job comes after so long. */
const FRESH_MS = 5 * 60_000;
const PATIENCE_MS = 15_000;

/** The effect of the profiles on scripts that do not read them. */
export interface Profile {
  /** Variables over those of the inherited environment. Empty where the profiles could not be asked. */
  current(): Promise<Readonly<Record<string, string>>>;
}

/**
 * Profiles can take longer than a whole job (version managers), so scripts that no author wrote start without them, and get
 * what the profiles set from a login shell that was asked once. Authors' scripts read the profiles themselves.
 * @param login starts a login shell that ends by itself with what `-c` follows, as the jobs' user
 */
export function createProfile(login: Argv, environment: Readonly<Record<string, string>>): Profile {
  let learnedAt = Number.NEGATIVE_INFINITY;
  let learning: Promise<Readonly<Record<string, string>>> | undefined;
  let known: Readonly<Record<string, string>> | undefined;

  const learn = async (): Promise<Readonly<Record<string, string>>> => {
    learnedAt = performance.now();
    try {
      const [program, ...args] = [...login, "-c", "exec env -0"];
      const asking = promisify(execFile)(program ?? "", args, {
        env: environment,
        cwd: "/",
        encoding: "utf8",
        timeout: PATIENCE_MS,
        killSignal: "SIGKILL",
        maxBuffer: 4 * 1024 * 1024,
      });
      // A profile that reads its input gets none.
      asking.child.stdin?.end();
      known = pick((await asking).stdout);
    } catch {
      // What is wrong with a profile is told by the job whose script reads it.
      known ??= {};
    } finally {
      learning = undefined;
    }
    return known;
  };

  return {
    async current() {
      if (performance.now() - learnedAt > FRESH_MS) learning ??= learn();
      return known ?? (await learning) ?? {};
    },
  };
}

/** `NAME=value` between NULs. What profiles print stands before the first name and belongs to no name that is looked for. */
function pick(text: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const part of text.split("\0")) {
    const line = part.slice(part.lastIndexOf("\n", part.indexOf("=")) + 1);
    const equals = line.indexOf("=");
    const name = line.slice(0, Math.max(equals, 0));
    if (LEARNED.test(name)) found[name] = line.slice(equals + 1);
  }
  return found;
}
