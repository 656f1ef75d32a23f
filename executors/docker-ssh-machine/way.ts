import { SystemFailure } from "../../src/errors.ts";
import type { MachineConnection } from "../docker-machine/index.ts";
import type { SshTable } from "../ssh/over-ssh.ts";

/**
 * How containers of a machine are reached: their addresses mean something on that machine alone, so the way there leads through
 * its sshd, with the key by which docker-machine has set it up. That sshd's host key need not be known, as the way carries
 * nothing but another SSH connection, to a container whose own keys its engine has told.
 * @throws {SystemFailure} there is no way
 */
export function wayThrough({ host, login }: MachineConnection, table: SshTable, local: boolean): SshTable {
  if (table.jump !== undefined || (login === null && local)) return table;
  if (login === null) {
    throw new SystemFailure(
      "docker-machine has no SSH key for this machine, by whose sshd its containers are reached. Use a driver that sets machines up by SSH, or name a way in [runners.ssh.jump]",
      { reason: "runner_configuration_error" },
    );
  }
  return {
    ...table,
    jump: {
      host: new URL(host.replace(/^tcp:/, "https:")).hostname.replace(/^\[(.*)\]$/, "$1"),
      port: login.port,
      user: login.user,
      identity_file: login.identityFile,
      disable_strict_host_key_checking: true,
    },
  };
}
