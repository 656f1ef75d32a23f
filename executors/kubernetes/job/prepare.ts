import { ScriptFailure } from "../../../src/errors.ts";
import type { ExecutorDeps } from "../../../src/executor/deps.ts";
import type { Environment } from "../../../src/executor/environment.ts";
import type { Notes, PrepareRequest } from "../../../src/executor/prepare.ts";
import { all } from "../../../src/time.ts";
import { PUBLIC_HELPER } from "../../images/public-helper.ts";
import { nameServices } from "../../images/service-names.ts";
import { serviceVariables, withheldFrom } from "../../images/service-variables.ts";
import { wantedImages } from "../../images/wanted.ts";
import { mountsOf, patchesOf } from "../pod/from-settings.ts";
import { isReserved, type Owner, uniqueName } from "../pod/labels.ts";
import { loginsFor } from "../pod/logins.ts";
import { choosePlaces, DEFAULT_BUILDS_DIR } from "../pod/places.ts";
import { containerNames, entrypointOf, type PodService } from "../pod/pod.ts";
import { isDnsSubdomain } from "../settings/fields.ts";
import type { Chosen } from "../settings/overwrites.ts";
import { type KubernetesSettings, TABLE } from "../settings/settings.ts";
import { userOf } from "../settings/users.ts";
import { type Cluster, locationOf } from "./cluster.ts";
import { describeContainers, makePlaces, shellOf } from "./containers/containers.ts";
import { createEnvironment } from "./environment.ts";
import { handleOf } from "./handle.ts";
import { createLoginSecret } from "./login-secret.ts";
import { followServices } from "./services/logs.ts";
import { tellOfEnds, waitForServices } from "./services/services.ts";
import { startPod } from "./start-pod.ts";
import type { Stay } from "./stay.ts";

export interface PrepareOptions {
  readonly cluster: Cluster;
  readonly namespace: string;
  readonly owner: Owner;
  readonly settings: KubernetesSettings;
  readonly deps: ExecutorDeps;
  readonly request: PrepareRequest;
  readonly slot: number;
  readonly chosen: Chosen;
  /** Why the public helper image could not be pulled a short while ago; `null` if it could. */
  readonly helperMissing: string | null;
  onHelperMissing(why: string): void;
  readonly stay: Stay;
  /** It may outlive this process. */
  readonly lasting: boolean;
}

/** Everything that one job runs in: a secret with its logins, and a pod. What was made when this rejects carries the job's key. */
export async function prepareJob(options: PrepareOptions, notes: Notes, signal: AbortSignal): Promise<Environment> {
  const { cluster, namespace, owner, settings, deps, request, slot, chosen, stay } = options;
  const { job, jobKey, runnerId, expand } = request;
  const wanted = wantedImages({
    policy: {
      table: TABLE,
      image: settings.image,
      allowedImages: settings.allowedImages,
      allowedServices: settings.allowedServices,
      services: settings.services,
      servicesLimit: null,
      disableEntrypointOverwrite: false,
      pullPolicies: settings.pullPolicies,
      allowedPullPolicies: settings.allowedPullPolicies,
      allowedUsers: [],
      privileged: settings.privileged ?? false,
      privilegedImages: [],
      privilegedServices: [],
    },
    // `docker.user` is for engines; in pods it is `kubernetes.user`, which has rules of its own.
    image: job.image === null ? null : { ...job.image, user: job.image.kubernetesUser ?? null },
    services: job.services.map((service) => ({ ...service, user: service.kubernetesUser ?? null })),
    expand,
  });
  const { build: ofBuild, service: ofService } = settings.securityContexts;
  const buildUser = userOf(settings, wanted.image.user, "The job", ofBuild);
  const serviceUsers = wanted.services.map(({ name, user }) =>
    userOf(settings, user, `The service ${name}`, ofService),
  );
  for (const { said } of [buildUser, ...serviceUsers]) if (said !== null) notes.print(said);
  const naming = nameServices(wanted.services, [hostOf(job.git.repoUrl)]);
  for (const warning of [...wanted.warnings, ...naming.warnings]) notes.print(warning, "warning");
  for (const { name, aliases } of wanted.services) {
    const bad = aliases.find((alias) => !isDnsSubdomain(alias.toLowerCase()));
    if (bad === undefined) continue;
    throw new ScriptFailure(
      `The alias ${JSON.stringify(bad.slice(0, 100))} of the service ${name} is none that Kubernetes takes: use small letters, digits, "-" and "."`,
    );
  }
  for (const key of Object.keys(chosen.labels).filter(isReserved)) {
    notes.print(`The label ${key} of pods is the runner's own: it is left as it is`, "warning");
  }
  for (const sentence of chosen.said) notes.print(sentence);

  const mounts = mountsOf(settings, expand);
  const buildsDir = deps.entry.buildsDir ?? DEFAULT_BUILDS_DIR;
  const { covered, ...places } = choosePlaces({
    buildsDir,
    mounts,
    patched: settings.podSpec.length > 0,
    request,
    slot,
  });
  const variables = request.openVariables({ ...places, projectSlot: slot });
  const containerOf = containerNames(naming.services);
  const withheld = withheldFrom(variables, {
    patterns: settings.servicesEnvironmentExclude,
    services: naming.services.length,
    notes,
  });
  const services = naming.services.flatMap(({ index, names }, place): PodService[] => {
    const service = wanted.services[index];
    const container = containerOf[place];
    if (service === undefined || container === undefined) return [];
    const user = serviceUsers[index]?.user ?? null;
    const env = serviceVariables(variables, service.variables, withheld);
    return [{ wanted: { ...service, user }, names, container, pull: undefined, env }];
  });
  const helperName = request.expandSettled(settings.helperImage ?? PUBLIC_HELPER);
  const images = [wanted.image.name, helperName, ...services.map((service) => service.wanted.name)];
  const auths = settings.useServiceAccountImagePullSecrets
    ? null
    : await loginsFor(images, request, deps.host.env, notes, signal);
  const unique = uniqueName(runnerId, job.projectId, slot);
  const secret =
    auths === null ? null : await createLoginSecret({ api: cluster.api, owner, namespace, jobKey, auths }, signal);

  const pod = await startPod(
    {
      cluster,
      namespace,
      settings,
      notes,
      onPod: stay.pod,
      patches: await patchesOf(settings, deps.host.working),
      parts: {
        unique,
        owner,
        request,
        settings,
        chosen,
        places,
        covered,
        mounts,
        build: { name: wanted.image.name, entrypoint: wanted.image.entrypoint, user: buildUser.user },
        services,
        loginSecret: secret?.name ?? null,
        pullSecrets: settings.imagePullSecrets.map((name) => expand(name)),
      },
      buildPolicies: wanted.image.policies,
      helper:
        settings.helperImage === undefined
          ? {
              name: helperName,
              policies: settings.pullPolicies.includes("never") ? ["never"] : ["if-not-present"],
              optional: true,
              missing: options.helperMissing,
            }
          : { name: helperName, policies: settings.pullPolicies, optional: false, missing: null },
    },
    signal,
  );
  if (pod.alone !== null) options.onHelperMissing(pod.alone);
  await secret?.ownBy(pod, signal);

  const containers = await describeContainers(
    {
      cluster,
      namespace,
      settings,
      pod,
      places,
      resources: chosen.resources,
      buildImage: wanted.image.name,
      helperImage: helperName,
      hasEntrypoint: entrypointOf(wanted.image.entrypoint) !== null,
    },
    signal,
  );
  const shell = shellOf(deps.entry.shell, containers.build);
  await makePlaces(containers, places, notes, signal);
  const place = { api: cluster.api, namespace, pod: pod.name, look: () => pod.view.pod, notes };
  const named = (all: readonly PodService[]) => all.map(({ wanted: { name }, container }) => ({ name, container }));
  const stopLogs =
    request.debugServices === true ? followServices({ ...place, services: named(services) }) : async () => {};
  const fine = await waitForServices(
    { ...place, services, limitMs: settings.waitForServicesMs, helper: containers.helper.commands },
    signal,
  );
  const stopTelling = tellOfEnds({ ...place, services: named(fine) });
  const host = `pod ${namespace}/${pod.name}${pod.nodeName === "" ? "" : ` on ${pod.nodeName}`}`;
  const prepared = { server: cluster.server, namespace, owner, pod, host, shell, slot, places, ...containers };
  const debugServices = request.debugServices === true;
  const environment = createEnvironment({
    ...{ jobKey, shell, ...containers, places, slot, host },
    handle: options.lasting ? handleOf({ ...prepared, services: named(fine), debugServices }) : undefined,
    location: locationOf(cluster),
    killLeftovers: deps.entry.killLeftovers,
    killGraceMs: deps.entry.killGraceMs,
    kill: stay.kill,
    destroyMs: settings.cleanupLimitMs,
    destroy: async (until) => {
      await all([stopLogs(), stopTelling()]);
      await stay.destroy(until);
    },
  });
  return { ...environment, scriptsOver: stopLogs };
}

function hostOf(url: string): string {
  return URL.canParse(url) ? new URL(url).hostname : "";
}
