import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { SystemFailure } from "../../src/errors.ts";
import type { SshSettings } from "../ssh/over-ssh.ts";
import type { Base, Source } from "./hypervisor.ts";
import { shortHash } from "./kept.ts";

/** What is known of the host key that copies of a base have, and what is learnt from the first of them. */
export interface HostKeys {
  /** The operator's host key counts; without one, the key that was learnt; without that, the first key is believed. */
  readonly policy: SshSettings["hostKeys"];
  /** After a login. @throws {SystemFailure} it cannot be written, or another copy has just shown another key */
  remember(): Promise<void>;
}

export async function openHostKeys(
  given: SshSettings["hostKeys"],
  { keepDir, hypervisor, base, source }: { keepDir: string; hypervisor: string; base: Base; source: Source },
): Promise<HostKeys> {
  const nothing = async (): Promise<void> => {};
  if (given.fingerprints.length > 0 || given.any) return { policy: given, remember: nothing };
  const file = join(keepDir, `${hypervisor}-host-key-${shortHash(base.id, source.identity)}`);
  const learnt = { of: base.name, file };
  const read = async (): Promise<string> => (await readFile(file, "utf8").catch(() => "")).trim();
  const known = await read();
  if (known !== "") {
    return { policy: { fingerprints: [known], knownHostsFiles: [], any: false, learnt }, remember: nothing };
  }
  let seen: string | null = null;
  return {
    policy: {
      fingerprints: [],
      knownHostsFiles: [],
      any: false,
      firstUse: (fingerprint) => {
        seen = fingerprint;
      },
    },
    remember: async () => {
      if (seen === null) return;
      try {
        await mkdir(dirname(file), { recursive: true, mode: 0o700 });
        await writeFile(file, `${seen}\n`, { mode: 0o600, flag: "wx" });
      } catch (cause) {
        const other = await read();
        if (other === seen) return;
        const why =
          other === ""
            ? `Cannot write ${file}, which says which host key copies of "${base.name}" have`
            : `Two copies of the virtual machine "${base.name}" have different host keys, ${seen} and ${other}: one of them is another machine, or they make keys of their own when they boot. Let them keep those of "${base.name}", or set disable_strict_host_key_checking = true in [runners.ssh]`;
        throw new SystemFailure(why, { cause, reason: "runner_configuration_error" });
      }
    },
  };
}
