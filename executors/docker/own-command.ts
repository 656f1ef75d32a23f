import type { Environment } from "../../src/executor/environment.ts";
import type { Notes } from "../../src/executor/prepare.ts";
import type { Variable } from "../../src/job/job.ts";
import { all } from "../../src/time.ts";
import { entrypointVariables } from "../images/service-variables.ts";
import type { RemoteCommands } from "../remote/index.ts";
import { createContainer, startContainer } from "./container/container.ts";
import { jobContainer } from "./container/container-config.ts";
import { type ContainerView, viewContainer } from "./container/view.ts";
import { jobLabels } from "./engine/labels.ts";
import type { ObtainedImage } from "./image/image.ts";
import { securityOf } from "./job/build-container.ts";
import { formerCachesOf } from "./job/former-caches.ts";
import {
  common,
  inNetwork,
  nameOf,
  networkOf,
  networkVariables,
  openScene,
  type PrepareJobOptions,
  type Scene,
} from "./job/scene.ts";
import { followServices } from "./job/services/follow-logs.ts";
import { waitForServices } from "./job/services/services.ts";
import { hostEntries, startServices } from "./job/services/start-services.ts";
import { createVolumes } from "./job/volumes.ts";

export type { ContainerView } from "./container/view.ts";
export type { PrepareJobOptions } from "./job/scene.ts";

/** A container whose image's own command runs, among its services. */
export interface OwnCommand {
  readonly container: ContainerView;
  /** What the surroundings add to the job's variables. */
  readonly variables: readonly Variable[];
  /** `helper` runs programs in the container, whoever starts them. */
  waitForServices(helper: RemoteCommands, signal: AbortSignal): Promise<void>;
  /** Nothing of a service's log comes any more. */
  stopLogs(): Promise<void>;
  /** As the job's surroundings have it; `null`: there can be none. */
  readonly formerCache: NonNullable<Environment["formerCache"]> | null;
}

/**
 * A container of the job's image with network, volumes and services as for `docker`, in which the runner starts nothing itself.
 * Whatever was made when this rejects carries the job's key: `options.destroy` finds it.
 */
export async function startOwnCommand(
  options: PrepareJobOptions,
  notes: Notes,
  signal: AbortSignal,
): Promise<OwnCommand> {
  const { engine, settings, deps, request } = options;
  // The container's account decides where sources go; no directories are made for it, and its private files are beside its checkout.
  const opened = await openScene(
    { ...options, deps: { ...deps, entry: { ...deps.entry, buildsDir: undefined } } },
    notes,
  );
  const places = { ...opened, workingDirectory: deps.host.working, privateVolume: false, expand: request.expand };
  const [network, volumes, image] = await all([
    networkOf(opened, signal),
    createVolumes(engine, places, signal),
    opened.obtain(opened.wanted.image, signal),
  ]);
  const scene = inNetwork(opened, network);
  const services = await startServices(scene, network, volumes, scene.naming.services, signal);
  const hosts = network.own ? [] : await hostEntries(engine, network, services, signal);
  const { mode, own } = network;
  const id = await start(scene, { mode, own, binds: volumes.binds, hosts, image }, signal);
  const limitMs = settings.waitForServicesMs;
  return {
    container: viewContainer(engine, { id, image: image.name }),
    stopLogs: request.debugServices === true ? followServices(engine, services, notes) : async () => {},
    variables: networkVariables(network.name),
    formerCache: formerCachesOf(scene, image.id),
    waitForServices: (helper, until) =>
      waitForServices(engine, { services, limitMs, helper, loopback: false, notes }, until),
  };
}

interface Parts {
  readonly mode: string;
  readonly own: boolean;
  readonly binds: readonly string[];
  readonly hosts: readonly string[];
  readonly image: ObtainedImage;
}

/** @returns the id of the started container */
async function start(scene: Scene, parts: Parts, signal: AbortSignal): Promise<string> {
  const { engine, settings, wanted, marks, accounts } = scene;
  const { image } = parts;
  const scratch = { name: nameOf(scene, "accounts"), labels: jobLabels(marks, "accounts") };
  const account = await accounts.of({ engine, settings, wanted: wanted.image, image, scratch }, signal);
  const { Cmd: _, ...body } = jobContainer({
    ...common(scene, parts.mode),
    securityOpt: securityOf(scene, account),
    image,
    labels: jobLabels(marks, "build"),
    aliases: parts.own ? ["build"] : [],
    privileged: wanted.image.privileged,
    binds: parts.binds,
    hostname: settings.hostname ?? scene.unique,
    env: entrypointVariables(scene.variables, settings.entrypointVariables),
    user: account.uid === 0 ? wanted.image.user : `${account.uid}:${account.gid}`,
    groups: account.groups,
    entrypoint: wanted.image.entrypoint,
    command: [],
    extraHosts: [...settings.extraHosts, ...parts.hosts],
  });
  const name = `the build container (image ${wanted.image.name})`;
  const id = await createContainer(engine, name, { ...body, name: nameOf(scene, "build") }, signal);
  await startContainer(engine, id, name, signal);
  return id;
}
