import { SystemFailure } from "../../../src/errors.ts";
import type { ExecutorDeps } from "../../../src/executor/deps.ts";
import type { Environment } from "../../../src/executor/environment.ts";
import type { AdoptRequest, Note } from "../../../src/executor/prepare.ts";
import { patiently } from "../../common/patiently.ts";
import { bare } from "../clean-up/ownership.ts";
import type { KubernetesSettings } from "../settings/settings.ts";
import { type Cluster, locationOf } from "./cluster.ts";
import { foundContainer } from "./containers/containers.ts";
import { createEnvironment } from "./environment.ts";
import type { Handle } from "./handle.ts";
import { followServices } from "./services/logs.ts";
import { type TellOptions, tellOfEnds } from "./services/services.ts";
import type { Stay } from "./stay.ts";

export interface AdoptOptions {
  readonly cluster: Cluster;
  readonly settings: KubernetesSettings;
  readonly deps: ExecutorDeps;
  readonly request: AdoptRequest;
  readonly stay: Stay;
  readonly known: Handle;
  readonly handle: Note;
}

/**
 * The pod of a job that an earlier process has made. That pod and containers are as they were is found out with each script, as
 * for those that this process makes: what they end with has the same words.
 * @throws {SystemFailure} it is another runner's by now; or it is gone, and none of the job's scripts has begun
 */
export async function adoptJob(options: AdoptOptions, signal: AbortSignal): Promise<Environment> {
  const { cluster, settings, deps, request, stay, known, handle } = options;
  const { api } = cluster;
  const { namespace, pod: name, uid, installation, process, places } = known;
  if (cluster.server !== known.server) {
    throw new SystemFailure(`its pod is in ${known.server}, and the entry names ${cluster.server} now`);
  }
  // Whoever holds the name lives: of two with copies of one state directory, one goes on with the job.
  const { owner } = await patiently(() => cluster.ownership(namespace, signal), signal);
  if (bare(owner.installation) !== bare(installation)) {
    throw new SystemFailure(
      `its pod in the namespace "${namespace}" is another runner's, which works with a copy of this one's state directory`,
    );
  }
  const view = cluster.watch(namespace, { installation, process }).view(name);
  stay.pod(name, view);
  const pod = { name, uid, view };
  const container = { cluster, namespace, settings, pod, places };
  const build = foundContainer(container, "build", known.build);
  const helper = known.helper === null ? build : foundContainer(container, "helper", known.helper);
  if (request.fresh === true) {
    const loss = (await build.lost(signal)) ?? (await helper.lost(signal));
    if (loss !== null) throw new SystemFailure(loss.message, { cause: loss });
  }
  let stopServices = async (): Promise<void> => {};
  const environment = createEnvironment({
    ...{
      jobKey: request.jobKey,
      shell: known.shell,
      build,
      helper,
      places,
      slot: known.slot,
      host: known.host,
      handle,
    },
    location: locationOf(cluster),
    killLeftovers: deps.entry.killLeftovers,
    killGraceMs: deps.entry.killGraceMs,
    kill: stay.kill,
    destroyMs: settings.cleanupLimitMs,
    destroy: async (until) => {
      await stopServices();
      await stay.destroy(until);
    },
  });
  return {
    ...environment,
    adopted: (notes, since) => {
      stopServices = followFound(known, { api, namespace, pod: name, look: () => view.pod, notes, since });
    },
    scriptsOver: async () => await stopServices(),
  };
}

/** @returns how to stop, once nothing more is written */
function followFound(
  known: Handle,
  place: Omit<TellOptions, "services"> & { readonly since: Date },
): () => Promise<void> {
  const { services, debugServices } = known;
  const stopTelling = tellOfEnds({ ...place, services });
  const stopLogs = debugServices ? followServices({ ...place, services }) : async (): Promise<void> => {};
  return async () => {
    await Promise.all([stopTelling(), stopLogs()]);
  };
}
