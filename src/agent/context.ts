import type { Writable } from "node:stream";
import type { CommandContext } from "../commands/context.ts";
import { configFileOf } from "../commands/context.ts";
import { systemId } from "../commands/system-id.ts";
import { createConnections } from "../coordinator/connection/connections.ts";
import { createIdentity } from "../coordinator/identity.ts";
import type { ExecutorCatalog } from "../executor/executor.ts";
import { revision, runtime, version } from "../version.ts";

export interface ContextOptions {
  readonly catalog: ExecutorCatalog;
  readonly output: Writable;
  /** `--config`. */
  readonly config: string | undefined;
  /** Whether this machine is to be known at GitLab from now on. */
  readonly keepsId: boolean;
}

/** What commands find around them, taken from this process. */
export async function createContext(
  { catalog, output, config, keepsId }: ContextOptions,
  signal: AbortSignal,
): Promise<CommandContext> {
  const { env, platform, arch } = process;
  const here = { env, cwd: process.cwd(), uid: process.getuid?.() };
  const say = (text: string): void => void process.stderr.write(`${text}\n`);
  return {
    ...here,
    catalog,
    coordinator: {
      connections: createConnections({ environment: env }),
      identity: createIdentity({ version, revision, runtime, platform, arch }),
      systemId: await systemId({ ...here, config: configFileOf(config, here), keep: keepsId, say }),
    },
    output,
    print: (text) => void output.write(`${text}\n`),
    say,
    signal,
  };
}
