import { execFile } from "node:child_process";
import { userInfo } from "node:os";
import { promisify } from "node:util";

/** For what builds parts of the tests: the account's own home, not that of own-home.ts. Caches and settings of npm, pip and Go are there. */
export function ownEnvironment(): NodeJS.ProcessEnv {
  return { ...process.env, HOME: userInfo().homedir };
}

/** Runs a script of bash that builds or fetches a part for the tests where it is missing, and prints where it is. */
export async function builtBy(script: string): Promise<string> {
  const { stdout } = await promisify(execFile)("bash", [script], { env: ownEnvironment() });
  return stdout.trim();
}

/** The same, for tests that may be left out: `null` where it cannot be had. With CI=true that is a failure. */
export async function builtIfPossible(script: string): Promise<string | null> {
  try {
    return await builtBy(script);
  } catch (error) {
    if (process.env.CI === "true") throw error;
    return null;
  }
}
