import { SystemFailure } from "../../../src/errors.ts";
import { machineProgram } from "./call.ts";
import { findStore } from "./store.ts";

const LIMIT_MS = 20_000;

/**
 * Asks docker-machine for its version, and its store for the machines of this account.
 * @throws {SystemFailure} there is no such program, it says nothing, or its store cannot be read
 */
export async function diagnoseProgram(
  env: Readonly<Record<string, string | undefined>>,
  signal: AbortSignal,
): Promise<string> {
  const store = findStore(env);
  // The store is made with the first machine, and a program cannot be started in a directory that is not there.
  const program = machineProgram(store, env, "/");
  const { code, stdout, complaint } = await program.run(["--version"], LIMIT_MS, signal);
  if (code !== 0) {
    throw new SystemFailure(`"docker-machine --version" ended with status ${code}: ${complaint || "it says nothing"}`);
  }
  const { length } = await store.names();
  const version = stdout.split("\n", 1)[0]?.trim().slice(0, 100) ?? "";
  return `${version}, ${length === 1 ? "1 machine" : `${length} machines`} in ${store.path}`;
}
