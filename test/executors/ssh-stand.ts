/** An sshd, an account on it, and executors that log in there. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import ssh from "../../executors/ssh/index.ts";
import { sshTable } from "../../executors/ssh/settings.ts";
import type { Executor } from "../../src/executor/executor.ts";
import type { Log } from "../../src/log.ts";
import { type DepsOptions, executorDeps } from "../support/executor-deps.ts";
import { loginUser, type Sshd, type SshdOptions, type SshUser, startSshd } from "../support/sshd.ts";

export interface SshStand {
  readonly sshd: Sshd;
  readonly user: SshUser;
  /** What was logged, one line each. */
  readonly logged: string[];
  open(deps?: DepsOptions, table?: Readonly<Record<string, unknown>>): Executor;
  close(): Promise<void>;
}

export async function openStand(options: SshdOptions & { readonly shell?: string } = {}): Promise<SshStand> {
  const sshd = await startSshd(options);
  const user = loginUser(sshd, options.shell);
  const logged: string[] = [];
  const take = (message: string, fields?: Readonly<Record<string, unknown>>): void => {
    logged.push(`${message} ${JSON.stringify(fields ?? {})}`);
  };
  const log: Log = { debug: take, info: take, warn: take, error: take, child: () => log };
  mkdirSync(join(sshd.dir, "scratch"));
  return {
    sshd,
    user,
    logged,
    open: (deps = {}, table = {}) =>
      ssh.create(
        {
          ssh: sshTable.parse({
            host: sshd.host,
            port: String(sshd.port),
            user: user.name,
            identity_file: sshd.keyFile,
            known_hosts_file: sshd.knownHostsFile,
            ...table,
          }),
        },
        executorDeps(sshd.dir, { log, buildsDir: join(user.home, "builds"), killGraceMs: 1000, ...deps }),
      ),
    close: () => sshd.close(),
  };
}
