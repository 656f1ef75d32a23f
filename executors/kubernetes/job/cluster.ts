import { join } from "node:path";
import { SystemFailure } from "../../../src/errors.ts";
import type { JobLocation } from "../../../src/executor.ts";
import type { ExecutorDeps } from "../../../src/executor-deps.ts";
import { never, unlessAborted } from "../../../src/time.ts";
import { installationId } from "../../common/installation.ts";
import { openAccess } from "../access/access.ts";
import { type Api, createApi } from "../api/client.ts";
import { createPodWatch, type PodWatch } from "../api/watch.ts";
import { LABELS, type Owner } from "../pod/labels.ts";
import { isDnsLabel } from "../settings/fields.ts";
import type { KubernetesSettings } from "../settings/settings.ts";
import { demandRights } from "./rights.ts";

/** One connection to a cluster, and what all jobs that use it have in common. */
export interface Cluster {
  readonly api: Api;
  readonly owner: Owner;
  /**
   * Only one process at a time uses the state directory, so another process of this installation must be a dead one.
   */
  readonly alone: boolean;
  /** The namespace of pods for which nobody names another one. */
  readonly namespace: string;
  /** The API server, as logs and notes name it. */
  readonly server: string;
  watch(namespace: string): PodWatch;
  /** Checks once per namespace that the login has the rights that jobs need; the error names those that are missing. */
  checkRights(namespace: string, signal: AbortSignal): Promise<void>;
  close(): void;
}

/** Pods are taken to reach this machine by the address from which it reaches the API server. */
export function locationOf({ server }: Pick<Cluster, "server">): JobLocation {
  return { at: "host", host: new URL(server).hostname };
}

/**
 * What stands for this state directory in a cluster that several runners may use: random, kept over restarts; or what the operator
 * says, where no directory is kept, as in a pod without a volume.
 */
async function installationOf({ keepDir, env }: ExecutorDeps["host"]): Promise<string> {
  return givenInstallation(env) ?? (await installationId(join(keepDir, "kubernetes-installation")));
}

/** @throws {SystemFailure} no label of a pod could hold it */
function givenInstallation({ ALLOY_RUNNER_INSTALLATION: given = "" }: ExecutorDeps["host"]["env"]): string | null {
  if (given === "") return null;
  if (isDnsLabel(given)) return given;
  throw new SystemFailure(
    `ALLOY_RUNNER_INSTALLATION is ${JSON.stringify(given.slice(0, 100))}: use small letters, digits and "-", at most 63 characters`,
    { reason: "runner_configuration_error" },
  );
}

export async function connectCluster(
  settings: KubernetesSettings,
  connection: KubernetesSettings["connection"],
  deps: ExecutorDeps,
  signal: AbortSignal,
): Promise<Cluster> {
  const access = await openAccess({ connection, env: deps.host.env, working: deps.host.working });
  if (access.insecure)
    deps.log.warn("the API server's certificate is not checked: the kubeconfig says so", { server: access.server });
  const api = createApi(access, settings.retry);
  const owner: Owner = {
    installation: await installationOf(deps.host),
    process: `${process.pid}-${Math.round(performance.timeOrigin)}`,
  };
  signal.throwIfAborted();
  const watches = new Map<string, PodWatch>();
  const checks = new Map<string, Promise<void>>();
  return {
    api,
    owner,
    alone: givenInstallation(deps.host.env) === null,
    namespace: settings.namespace ?? access.namespace ?? "default",
    server: access.server,
    watch: (namespace) => {
      const labels = { [LABELS.installation]: owner.installation, [LABELS.process]: owner.process };
      const known = watches.get(namespace);
      if (known !== undefined) return known;
      const made = createPodWatch({ api, namespace, labels, pollMs: settings.pollIntervalMs, log: deps.log });
      watches.set(namespace, made);
      return made;
    },
    checkRights: async (namespace, asking) => {
      const known = checks.get(namespace);
      const work = known ?? demandRights(api, namespace, never);
      if (known === undefined) {
        checks.set(namespace, work);
        // Rights may be given while the runner runs.
        work.catch(() => checks.delete(namespace));
      }
      await unlessAborted(work, asking);
    },
    close: () => {
      for (const watch of watches.values()) watch.close();
      api.close();
    },
  };
}
