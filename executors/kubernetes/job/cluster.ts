import type { ExecutorDeps } from "../../../src/executor/deps.ts";
import type { JobLocation } from "../../../src/executor/environment.ts";
import { never, unlessAborted } from "../../../src/time.ts";
import { openAccess } from "../access/access.ts";
import { type Api, createApi } from "../api/client.ts";
import { createPodWatch, type PodWatch } from "../api/watch.ts";
import { createOwnerships, type Ownership } from "../clean-up/ownership.ts";
import { LABELS, type Owner } from "../pod/labels.ts";
import type { KubernetesSettings } from "../settings/settings.ts";
import { demandRights } from "./rights.ts";

/** One connection to a cluster, and what all jobs that use it have in common. */
export interface Cluster {
  readonly api: Api;
  /** The namespace of pods for which nobody names another one. */
  readonly namespace: string;
  /** The API server, as logs and notes name it. */
  readonly server: string;
  /** In whose name things are made in a namespace; asked for before the first one. */
  ownership(namespace: string, signal: AbortSignal): Promise<Ownership>;
  watch(namespace: string, owner: Owner): PodWatch;
  /** Checks once per namespace that the login has the rights that jobs need; the error names those that are missing. */
  checkRights(namespace: string, signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

/** Pods are taken to reach this machine by the address from which it reaches the API server. */
export function locationOf({ server }: Pick<Cluster, "server">): JobLocation {
  return { at: "host", host: new URL(server).hostname };
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
  const ownerships = createOwnerships(api, deps);
  signal.throwIfAborted();
  const watches = new Map<string, PodWatch>();
  const checks = new Map<string, Promise<void>>();
  return {
    api,
    namespace: settings.namespace ?? access.namespace ?? "default",
    server: access.server,
    // All jobs that wait for it share it.
    ownership: (namespace, asking) => unlessAborted(ownerships.in(namespace, never), asking),
    watch: (namespace, owner) => {
      const labels = { [LABELS.installation]: owner.installation, [LABELS.process]: owner.process };
      const key = `${namespace}/${owner.installation}`;
      const known = watches.get(key);
      if (known !== undefined) return known;
      const made = createPodWatch({ api, namespace, labels, pollMs: settings.pollIntervalMs, log: deps.log });
      watches.set(key, made);
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
    close: async () => {
      for (const watch of watches.values()) watch.close();
      await ownerships.close();
      api.close();
    },
  };
}
