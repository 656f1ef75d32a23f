/** An sshd, an account on it, and executors that log in there. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import ssh from "../../executors/ssh/index.ts";
import { sshTable } from "../../executors/ssh/settings.ts";
import type { Executor, ExecutorDeps } from "../../src/executor.ts";
import type { Log } from "../../src/log.ts";
import { loginUser, type Sshd, type SshdOptions, type SshUser, startSshd } from "../support/sshd.ts";

export interface SshStand {
  readonly sshd: Sshd;
  readonly user: SshUser;
  /** What was logged, one line each. */
  readonly logged: string[];
  open(deps?: Partial<ExecutorDeps>, table?: Readonly<Record<string, unknown>>): Executor;
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
  const scratchDir = join(sshd.dir, "scratch");
  mkdirSync(scratchDir);
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
        {
          log,
          buildsDir: join(user.home, "builds"),
          cacheDir: undefined,
          shell: undefined,
          workingDirectory: sshd.dir,
          user: undefined,
          scratchDir,
          inheritEnvironment: [],
          killLeftovers: true,
          killGraceMs: 1000,
          ...deps,
        },
      ),
    close: () => sshd.close(),
  };
}
