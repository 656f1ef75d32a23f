import { SystemFailure } from "../../src/errors.ts";
import type { Environment, Notes } from "../../src/executor.ts";
import { all } from "../../src/time.ts";
import { createContainer, startContainer } from "../docker/container/container.ts";
import { jobContainer } from "../docker/container/container-config.ts";
import { jobLabels } from "../docker/engine/labels.ts";
import type { ObtainedImage } from "../docker/image/image.ts";
import { securityOf } from "../docker/job/build-container.ts";
import { common, nameOf, networkOf, openScene, type PrepareJobOptions, type Scene } from "../docker/job/scene.ts";
import { waitForServices } from "../docker/job/services.ts";
import { hostEntries, startServices } from "../docker/job/start-services.ts";
import { createVolumes } from "../docker/job/volumes.ts";
import { entrypointVariables } from "../images/service-variables.ts";
import { connectSsh } from "../ssh/connection/connection.ts";
import { jobOverSsh, type OverSshOptions } from "../ssh/over-ssh.ts";
import { type SshTable, sshSettings } from "../ssh/settings.ts";
import { containerAddress } from "./address.ts";
import { logInToContainer, mustRun } from "./login.ts";

/**
 * A container of the job's image, whose own command starts sshd; services and network as for `docker`; scripts and files over
 * SSH. Whatever was made when this rejects carries the job's key: `destroy` finds it.
 */
export async function prepareSshJob(
  table: SshTable,
  options: PrepareJobOptions,
  notes: Notes,
  signal: AbortSignal,
): Promise<Environment> {
  const { engine, settings, deps, request } = options;
  const { expand } = request;
  mustBeReachable(options, table);
  // The container's account decides where sources go; the engine's part makes no directories for it.
  const scene = await openScene(
    { ...options, deps: { ...deps, entry: { ...deps.entry, buildsDir: undefined } } },
    notes,
  );
  const [network, volumes, image] = await all([
    networkOf(scene, signal),
    // The account's private files are beside its checkout.
    createVolumes(engine, { ...scene, workingDirectory: deps.host.working, privateVolume: false, expand }, signal),
    scene.obtain(scene.wanted.image, signal),
  ]);
  const services = await startServices(scene, network, volumes, scene.naming.services, signal);
  const hosts = network.own ? [] : await hostEntries(engine, network, services, signal);

  const id = await startSshd(
    scene,
    { mode: network.mode, own: network.own, binds: volumes.binds, hosts, image },
    signal,
  );
  const started = { engine, id, image: image.name, notes };
  const address = await containerAddress(engine, id, signal).catch(async (error: unknown) => {
    // A container that has ended has no address any more: that is what there is to say, then.
    await mustRun(started, signal);
    throw error;
  });
  const target = sshSettings(
    table,
    { workingDirectory: deps.host.working, environment: deps.host.env },
    { host: address },
  );
  const login = await logInToContainer(started, target, { log: deps.log }, signal);
  const host = `container ${id.slice(0, 12)} on ${engine.hostName}`;
  const limitMs = settings.waitForServicesMs;
  const over: OverSshOptions = {
    deps,
    request,
    ephemeral: false,
    host,
    location: engine.location,
    without: (shell) => `The image ${image.name} has no ${shell}. Use another image`,
    connection: login.connection,
    connect: (until) => connectSsh(login.settings, { log: deps.log }, until),
    ready: ({ commands: helper }) =>
      waitForServices(engine, { services, limitMs, helper, loopback: false, notes }, signal),
    cleanUp: async () => {},
  };
  const { environment, close } = await jobOverSsh(over, signal);
  return {
    ...environment,
    host,
    projectSlot: options.slot,
    // All of it goes with the container.
    destroy: async (until) => {
      close();
      await options.destroy(until);
    },
  };
}

/**
 * What would lead to another machine than the container, the runner's own above all, is refused before anything is made.
 * @throws {SystemFailure} says which setting is in the way
 */
function mustBeReachable({ engine, settings }: PrepareJobOptions, table: SshTable): void {
  const mode = settings.networkMode ?? "";
  if (/^(?:host|none)$|^container:/.test(mode)) {
    throw new SystemFailure(
      `docker-ssh needs a container with an address of its own: remove network_mode = "${mode}" from [runners.docker]`,
      { reason: "runner_configuration_error" },
    );
  }
  // An address of a bridge over there can be another container's, or anybody's, over here.
  if (!engine.local && table.jump === undefined) {
    throw new SystemFailure(
      `docker-ssh reaches containers of an engine on this machine only, and ${engine.address} is another. Use executor "docker", or name a way there in [runners.ssh.jump]`,
      { reason: "runner_configuration_error" },
    );
  }
}

interface SshdParts {
  readonly mode: string;
  readonly own: boolean;
  readonly binds: readonly string[];
  readonly hosts: readonly string[];
  readonly image: ObtainedImage;
}

/** @returns the id of the started container */
async function startSshd(scene: Scene, parts: SshdParts, signal: AbortSignal): Promise<string> {
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
    env: entrypointVariables(scene.variables),
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
