import { readFile, stat } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { SystemFailure } from "../../../src/errors.ts";
import type { ExecutorDeps } from "../../../src/executor/deps.ts";
import { installationId, renewInstallationId } from "../../common/installation.ts";
import type { Api } from "../api/client.ts";
import type { Owner } from "../pod/labels.ts";
import { isDnsLabel } from "../settings/fields.ts";
import { type Claim, claimInstallation } from "./claim.ts";

/** In whose name a process makes things in a namespace. */
export interface Ownership {
  readonly owner: Owner;
  /** Nobody else who lives makes anything in this name: what other processes have made in it is left over. */
  readonly alone: boolean;
}

/** Settles in whose name things are made, for each namespace before the first thing is made there. */
export interface Ownerships {
  in(namespace: string, signal: AbortSignal): Promise<Ownership>;
  close(): Promise<void>;
}

/** Ends the name of a process that cannot prove that it is the only one: nobody looks for what such ones have left. */
const UNPROVEN = "-unproven";

export function isProven(installation: string): boolean {
  return !installation.endsWith(UNPROVEN);
}

/** The name by itself: a login may get the right to leases, or lose it, while a job runs. */
export function bare(installation: string): string {
  return isProven(installation) ? installation : installation.slice(0, -UNPROVEN.length);
}

export function createOwnerships(api: Api, { host, log }: Pick<ExecutorDeps, "host" | "log">): Ownerships {
  const self = `${process.pid}-${Math.round(performance.timeOrigin)}`;
  const given = givenInstallation(host.env);
  const file = join(host.keepDir, "kubernetes-installation");
  const known = new Map<string, Promise<Ownership>>();
  const held = new Set<Extract<Claim, { kind: "held" }>>();

  const settle = async (namespace: string, signal: AbortSignal): Promise<Ownership> => {
    if (given !== null) return { owner: { installation: given, process: self }, alone: false };
    for (;;) {
      const installation = await installationId(file);
      const directory = await identityOf(file);
      const holder = `${hostname()}/${self}/${directory ?? "unknown"}`;
      const claim = await claimInstallation(
        {
          api,
          namespace,
          installation,
          holder,
          // Only one process at a time uses a state directory.
          isOver: (other) => other === holder || (directory !== null && other.endsWith(`/${directory}`)),
          onLost: () => known.delete(namespace),
          log,
        },
        signal,
      );
      if (claim.kind === "held") {
        held.add(claim);
        return { owner: { installation, process: self }, alone: true };
      }
      if (claim.kind === "denied") {
        log.warn("what a lost runner has left is not looked for: the login may not hold leases", {
          namespace,
          problem: claim.said,
        });
        return { owner: { installation: `${installation}${UNPROVEN}`, process: self }, alone: false };
      }
      log.warn("another runner works with a copy of this state directory: this one takes a new name in the cluster", {
        namespace,
        other: claim.holder,
        file,
      });
      await renewInstallationId(file, installation);
    }
  };

  return {
    in: (namespace, signal) => {
      const before = known.get(namespace);
      if (before !== undefined) return before;
      const fresh = settle(namespace, signal);
      known.set(namespace, fresh);
      fresh.catch(() => known.delete(namespace));
      return fresh;
    },
    close: async () => {
      await Promise.all([...held].map((claim) => claim.release()));
    },
  };
}

/**
 * What is this directory's, on this boot of the machine, and no copy's: number and birth of its file. `null` where the platform
 * does not tell.
 */
async function identityOf(file: string): Promise<string | null> {
  const boot = (await readFile("/proc/sys/kernel/random/boot_id", "latin1").catch(() => "")).trim();
  if (boot === "") return null;
  const { ino, birthtimeMs } = await stat(file);
  return `${boot}:${ino}:${Math.round(birthtimeMs)}`;
}

/**
 * The operator's word for what stands for a state directory, where none is kept, as in a pod without a volume.
 * @throws {SystemFailure} no label of a pod could hold it
 */
function givenInstallation({ ALLOY_RUNNER_INSTALLATION: given = "" }: ExecutorDeps["host"]["env"]): string | null {
  if (given === "") return null;
  if (isDnsLabel(given)) return given;
  throw new SystemFailure(
    `ALLOY_RUNNER_INSTALLATION is ${JSON.stringify(given.slice(0, 100))}: use small letters, digits and "-", at most 63 characters`,
    { reason: "runner_configuration_error" },
  );
}
