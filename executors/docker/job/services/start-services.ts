import type { ContainerCreateOptions } from "dockerode";
import { all } from "../../../../src/time.ts";
import { matchesAny } from "../../../images/allowed.ts";
import { serviceVariables, withheldFrom } from "../../../images/service-variables.ts";
import type { WantedService } from "../../../images/wanted.ts";
import { inlineProfiles, serviceContainer } from "../../container/container-config.ts";
import type { Engine } from "../../engine/engine.ts";
import { jobLabels } from "../../engine/labels.ts";
import type { ObtainedImage } from "../../image/image.ts";
import type { JobNetwork } from "../network/network.ts";
import { common, nameOf, type Scene } from "../scene.ts";
import type { JobVolumes } from "../volumes.ts";
import { addressOf, type RunningService, startService } from "./services.ts";

/** Start all services at once. */
export async function startServices(
  scene: Scene,
  network: JobNetwork,
  volumes: JobVolumes,
  named: readonly { readonly index: number; readonly names: readonly string[] }[],
  signal: AbortSignal,
): Promise<readonly RunningService[]> {
  const { engine, settings, wanted, notes } = scene;
  const securityOpt = settings.servicesSecurityOpt.length > 0 ? await inlineProfiles(settings.servicesSecurityOpt) : [];
  const withheld = withheldFrom(scene.variables, {
    patterns: settings.servicesEnvironmentExclude,
    services: wanted.services.length,
    notes,
  });
  const start = async (service: WantedService, names: readonly string[]): Promise<RunningService> => {
    const image = await scene.obtain(service, signal);
    const devices = Object.entries(settings.servicesDevices)
      .filter(([pattern]) => matchesAny(service.name, [pattern]))
      .flatMap(([, list]) => list);
    const env = serviceVariables(scene.variables, service.variables, withheld);
    const body = serviceContainer({
      ...common(scene, network.mode),
      securityOpt,
      image,
      labels: { ...jobLabels(scene.marks, "service"), "com.gitlab.gitlab-runner.service": service.name },
      aliases: network.own ? names : [],
      privileged: service.privileged,
      binds: volumes.serviceBinds,
      env,
      entrypoint: service.entrypoint,
      command: service.command,
      devices,
    });
    const { user, groups } = await userOf(scene, service, image, signal);
    const named: ContainerCreateOptions = {
      ...body,
      name: nameOf(scene, "service"),
      ...(user === null ? {} : { User: user }),
      HostConfig: { ...body.HostConfig, ...(groups.length === 0 ? {} : { GroupAdd: groups.map(String) }) },
    };
    return await startService(engine, { wanted: service, image, names, env, body: named }, signal);
  };
  if (network.mode === "none" && wanted.services.length > 0) {
    notes.print('The services of the job cannot be reached: network_mode in [runners.docker] is "none"', "warning");
  }
  const started = named.map(async ({ index, names }) => {
    const service = wanted.services[index];
    return service === undefined ? [] : [await start(service, names)];
  });
  return (await all(started)).flat();
}

/**
 * Where `allowed_users` says whom a job may choose, a name is who the service's image says, and never root under another name.
 * @throws {ScriptFailure} it is nobody there, or root
 */
async function userOf(
  scene: Scene,
  { user }: WantedService,
  image: ObtainedImage,
  signal: AbortSignal,
): Promise<{ readonly user: string | null; readonly groups: readonly number[] }> {
  const { engine, settings, accounts, marks } = scene;
  if (user === null || settings.allowedUsers.length === 0) return { user, groups: [] };
  // `user` of the entry is that of jobs alone.
  const rules = { user: undefined, allowedUsers: settings.allowedUsers };
  const scratch = { name: nameOf(scene, "accounts"), labels: jobLabels(marks, "accounts") };
  const account = await accounts.of({ engine, settings: rules, wanted: { user }, image, scratch }, signal);
  return { user: `${account.uid}:${account.gid}`, groups: account.groups };
}

/** `name:address` of services, where no DNS knows them. */
export async function hostEntries(
  engine: Engine,
  { mode }: JobNetwork,
  services: readonly RunningService[],
  signal: AbortSignal,
): Promise<string[]> {
  if (mode === "none" || mode.startsWith("container:")) return [];
  const entries = services.map(async (service) => {
    const address = mode === "host" ? "127.0.0.1" : await addressOf(engine, service, signal);
    return address === null ? [] : service.names.map((name) => `${name}:${address}`);
  });
  return (await Promise.all(entries)).flat();
}
