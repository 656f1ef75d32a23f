import type { CommandContext, LocalContext } from "../commands/context.ts";
import { configFileOf } from "../commands/context.ts";
import { systemId } from "../commands/system-id.ts";
import { createConnections } from "../coordinator/connection/connections.ts";
import { createIdentity } from "../coordinator/identity.ts";
import { revision, runtime, version } from "../version.ts";

export interface ContextOptions {
  /** `--config`. */
  readonly config: string | undefined;
  /** Whether this machine is to be known at GitLab from now on. */
  readonly keepsId: boolean;
}

/** What commands need to ask coordinators, besides what is around them anyway. */
export async function createContext(local: LocalContext, { config, keepsId }: ContextOptions): Promise<CommandContext> {
  const { platform, arch } = process;
  const { env, cwd, uid, say } = local;
  return {
    ...local,
    coordinator: {
      connections: createConnections({ environment: env }),
      identity: createIdentity({ version, revision, runtime, platform, arch }),
      systemId: await systemId({ env, cwd, uid, config: configFileOf(config, local), keep: keepsId, say }),
    },
  };
}
