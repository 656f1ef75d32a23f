import type { Writable } from "node:stream";
import type { CommandContext } from "../commands/context.ts";
import { systemId } from "../commands/context.ts";
import { createConnections } from "../coordinator/connection/connections.ts";
import { createIdentity } from "../coordinator/identity.ts";
import type { ExecutorCatalog } from "../executor.ts";
import { revision, runtime, version } from "../version.ts";

/** What commands find around them, taken from this process. */
export async function createContext(
  catalog: ExecutorCatalog,
  output: Writable,
  signal: AbortSignal,
): Promise<CommandContext> {
  const { env, platform, arch } = process;
  const here = { env, cwd: process.cwd(), uid: process.getuid?.() };
  return {
    ...here,
    catalog,
    coordinator: {
      connections: createConnections({ environment: env }),
      identity: createIdentity({ version, revision, runtime, platform, arch }),
      systemId: await systemId(here),
    },
    output,
    print: (text) => void output.write(`${text}\n`),
    say: (text) => void process.stderr.write(`${text}\n`),
    signal,
  };
}
