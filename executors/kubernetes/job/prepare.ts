import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { describeError, ScriptFailure, SystemFailure } from "../../../src/errors.ts";
import type { Environment, Notes, PrepareRequest } from "../../../src/executor.ts";
import type { ExecutorDeps } from "../../../src/executor-deps.ts";
import type { ShellName } from "../../../src/shell.ts";
import { all, pause, unlessAborted } from "../../../src/time.ts";
import { nameServices } from "../../images/service-names.ts";
import { serviceVariables } from "../../images/service-variables.ts";
import { wantedImages } from "../../images/wanted.ts";
import { probeTools, type RemoteCommands, runToEnd } from "../../remote/index.ts";
import { podCommands } from "../api/commands.ts";
import { deleteObject, secretsPath, warningsAbout } from "../api/pods.ts";
import { ApiFailure } from "../api/status.ts";
import type { PodView } from "../api/watch.ts";
import { ENTRYPOINT_FILE } from "../pod/idle.ts";
import { isReserved, loginsName, ownLabels, uniqueName } from "../pod/labels.ts";
import { loginsFor } from "../pod/logins.ts";
import type { Patch } from "../pod/patch.ts";
import { choosePlaces, cleanPath, DEFAULT_BUILDS_DIR, type Places } from "../pod/places.ts";
import { containerNameOf, entrypointOf, type PodMount, type PodService } from "../pod/pod.ts";
import { isDnsLabel, isDnsSubdomain } from "../settings/fields.ts";
import type { choose } from "../settings/overwrites.ts";
import { type KubernetesSettings, TABLE } from "../settings/settings.ts";
import { userOf } from "../settings/users.ts";
import { type Cluster, locationOf } from "./cluster.ts";
import { createEnvironment, type JobContainer } from "./environment.ts";
import { evictionOf, isFinal, lossOf, OutOfMemory } from "./failures.ts";
import { ENTRYPOINT_ENVIRONMENT, HAS_HOME, MAKE_PLACES } from "./places-program.ts";
import { followServices, wantsServiceLogs } from "./service-logs.ts";
import { waitForServices } from "./services.ts";
import { type StartedPod, startPod } from "./start-pod.ts";

/** A public image of git that is made for many architectures. Used where `helper_image` is not set. */
const PUBLIC_HELPER = "docker.io/alpine/git:latest";

export interface PrepareOptions {
  readonly cluster: Cluster;
  readonly namespace: string;
  readonly settings: KubernetesSettings;
  readonly deps: ExecutorDeps;
  readonly request: PrepareRequest;
  readonly slot: number;
  readonly chosen: ReturnType<typeof choose>;
  /** Why the public helper image could not be pulled a short while ago; `null` if it could. */
  readonly helperMissing: string | null;
  onHelperMissing(why: string): void;
  /** `view` is to be closed once the job is over. */
  onPod(name: string, view: PodView): void;
  readonly destroy: (signal: AbortSignal) => Promise<void>;
  readonly kill: () => Promise<void>;
}

/** Everything that one job runs in: a secret with its logins, and a pod. What was made when this rejects carries the job's key. */
export async function prepareJob(options: PrepareOptions, notes: Notes, signal: AbortSignal): Promise<Environment> {
  const { cluster, namespace, settings, deps, request, slot, chosen } = options;
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
  const { covered, ...places } = choosePlaces({ buildsDir, mounts, request, slot });
  const variables = request.openVariables({ ...places, projectSlot: slot });
  const services = naming.services.flatMap(({ index, names }): PodService[] => {
    const service = wanted.services[index];
    if (service === undefined) return [];
    const user = serviceUsers[index]?.user ?? null;
    return [
      { wanted: { ...service, user }, names, pull: undefined, env: serviceVariables(variables, service.variables) },
    ];
  });
  const helperName = expand(settings.helperImage ?? PUBLIC_HELPER);
  const images = [wanted.image.name, helperName, ...services.map((service) => service.wanted.name)];
  const auths = settings.useServiceAccountImagePullSecrets
    ? null
    : await loginsFor(images, request, deps.host.env, notes, signal);
  const unique = uniqueName(runnerId, job.projectId, slot);
  const loginSecret = auths === null ? null : await createSecret(options, loginsName(jobKey), auths, signal);

  const pod = await startPod(
    {
      cluster,
      namespace,
      settings,
      notes,
      onPod: options.onPod,
      patches: await patchesOf(settings, deps.host.working),
      parts: {
        unique,
        owner: cluster.owner,
        request,
        settings,
        chosen,
        places,
        covered,
        mounts,
        build: { name: wanted.image.name, entrypoint: wanted.image.entrypoint, user: buildUser.user },
        services,
        loginSecret,
        pullSecrets: settings.imagePullSecrets.map((name) => expand(name)),
      },
      buildPolicies: wanted.image.policies,
      servicePolicies: services.map((service) => service.wanted.policies),
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
  if (loginSecret !== null) await own(options, { secret: loginSecret, auths, pod }, signal);

  const containers = await describeContainers(options, pod, {
    places,
    buildImage: wanted.image.name,
    helperImage: helperName,
    hasEntrypoint: entrypointOf(wanted.image.entrypoint) !== null,
    signal,
  });
  await makePlaces(containers, places, notes, signal);
  const taken = new Set(["build", "helper"]);
  const named = services.map((service, index) => {
    const container = containerNameOf(service, index, taken);
    taken.add(container);
    return { ...service, container };
  });
  const stopLogs = wantsServiceLogs(request)
    ? followServices({
        api: cluster.api,
        namespace,
        pod: pod.name,
        services: named.map(({ wanted: { name }, container }) => ({ name, container })),
        look: () => pod.view.pod,
        notes,
      })
    : async () => {};
  await waitForServices(
    {
      api: cluster.api,
      namespace,
      pod: pod.name,
      services: named,
      limitMs: settings.waitForServicesMs,
      helper: containers.helper.commands,
      look: () => pod.view.pod,
      notes,
    },
    signal,
  );
  return createEnvironment({
    jobKey,
    shell: shellOf(deps.entry.shell, containers.build),
    ...containers,
    places,
    slot,
    host: `pod ${namespace}/${pod.name}${pod.nodeName === "" ? "" : ` on ${pod.nodeName}`}`,
    location: locationOf(cluster),
    killLeftovers: deps.entry.killLeftovers,
    killGraceMs: deps.entry.killGraceMs,
    kill: options.kill,
    destroy: async (until) => {
      await stopLogs();
      await options.destroy(until);
    },
  });
}

function hostOf(url: string): string {
  return URL.canParse(url) ? new URL(url).hostname : "";
}

/** @throws {SystemFailure} a name or a path is none once its variables are in it */
function mountsOf({ volumes }: KubernetesSettings, expand: (text: string) => string): PodMount[] {
  return volumes.map(({ source, ...mount }) => {
    const name = expand(mount.name);
    const mountPath = expand(mount.mountPath);
    const subPath = mount.subPath === undefined ? undefined : expand(mount.subPath);
    const wrong = !isDnsLabel(name)
      ? `has a name that the cluster does not take (${JSON.stringify(name.slice(0, 100))})`
      : !mountPath.startsWith("/")
        ? `is mounted on ${JSON.stringify(mountPath.slice(0, 100))}, which is no absolute path`
        : subPath !== undefined && (subPath.startsWith("/") || subPath.split("/").includes(".."))
          ? `has a sub_path that leaves it (${JSON.stringify(subPath.slice(0, 100))})`
          : null;
    if (wrong !== null) {
      throw new SystemFailure(`The volume "${mount.name}" (${mount.kind}) in [${TABLE}] ${wrong}`, {
        reason: "runner_configuration_error",
      });
    }
    return { ...mount, name, mountPath: cleanPath(mountPath), subPath, source: source(name) };
  });
}

async function patchesOf({ podSpec }: KubernetesSettings, working: string): Promise<Patch[]> {
  const read = podSpec.map(async ({ name, patch, patch_path, patch_type }, index): Promise<Patch> => {
    const called = JSON.stringify(name ?? `#${index + 1}`);
    if (patch !== undefined) return { name: called, text: patch, type: patch_type };
    const path = resolve(working, patch_path ?? "");
    try {
      return { name: called, text: await readFile(path, "utf8"), type: patch_type };
    } catch (cause) {
      throw new SystemFailure(
        `patch_path of the patch ${called} in [${TABLE}] cannot be read: ${describeError(cause)}`,
        {
          reason: "runner_configuration_error",
          cause,
        },
      );
    }
  });
  return await Promise.all(read);
}

function secretOf({ cluster, namespace, request }: PrepareOptions, name: string, auths: unknown) {
  return {
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name, namespace, labels: ownLabels(cluster.owner, request.jobKey, "login") },
    type: "kubernetes.io/dockerconfigjson",
    data: { ".dockerconfigjson": Buffer.from(JSON.stringify({ auths })).toString("base64") },
  };
}

async function createSecret(
  options: PrepareOptions,
  name: string,
  auths: unknown,
  signal: AbortSignal,
): Promise<string> {
  const { cluster, namespace } = options;
  const body = secretOf(options, name, auths);
  const path = secretsPath(namespace);
  try {
    await cluster.api.call({ what: "save the logins of the job", method: "POST", path, body }, signal);
  } catch (error) {
    if (!(error instanceof ApiFailure)) throw error;
    if (error.status === 403) {
      throw new SystemFailure(
        `The job has logins for its images, and the runner may not create secrets in "${namespace}": give its role that right, or use image_pull_secrets in [${TABLE}]: ${error.said}`,
        { reason: "runner_configuration_error", cause: error },
      );
    }
    if (error.status !== 409) throw error;
    // The old secret comes from an earlier try whose answer was lost, or from an earlier preparation of the same job.
    await deleteObject(cluster.api, { what: "replace logins", path: secretsPath(namespace, name), uid: null }, signal);
    await cluster.api.call({ what: "save the logins of the job", method: "POST", path, body }, signal);
  }
  return name;
}

/** Makes the pod own the secret, so that the cluster removes the secret with the pod even if nobody else can. */
async function own(
  options: PrepareOptions,
  { secret, auths, pod }: { readonly secret: string; readonly auths: unknown; readonly pod: StartedPod },
  signal: AbortSignal,
): Promise<void> {
  const { cluster, namespace } = options;
  const { metadata, ...rest } = secretOf(options, secret, auths);
  const ownerReferences = [{ apiVersion: "v1", kind: "Pod", name: pod.name, uid: pod.uid }];
  const path = secretsPath(namespace, secret);
  const body = { ...rest, metadata: { ...metadata, ownerReferences } };
  try {
    await cluster.api.call({ what: "tie the logins to the pod", method: "PUT", path, body }, signal);
  } catch (error) {
    // The job can go on without an owner for the secret, as `destroy` removes it in any case.
    if (!(error instanceof ApiFailure) || error.retry) throw error;
  }
}

const LONGEST_LOOK_MS = 60_000;
const AGAIN_MS = 2000;
/** The reason why containers ended may appear in the pod this long after their end. */
const LATE_REASON_MS = 5000;
const REASON_PAUSE_MS = 500;

interface Containers {
  readonly build: JobContainer;
  readonly helper: JobContainer;
}

async function describeContainers(
  { cluster, namespace, settings, chosen }: PrepareOptions,
  pod: StartedPod,
  about: {
    readonly places: Places;
    readonly buildImage: string;
    readonly helperImage: string;
    readonly hasEntrypoint: boolean;
    readonly signal: AbortSignal;
  },
): Promise<Containers> {
  const { places, signal } = about;
  const describe = async (name: "build" | "helper", image: string): Promise<JobContainer> => {
    const memoryLimit = chosen.resources.get(name === "build" ? "memory_limit" : "helper_memory_limit")?.text ?? "";
    const facts = { name: pod.name, uid: pod.uid, container: name, memoryLimit };
    let until: number | undefined;
    const lost = async (asking: AbortSignal): Promise<Error | null> => {
      try {
        for (;;) {
          const seen = await pod.view.look(asking);
          const loss = lossOf(seen, facts);
          if (loss === null || seen === null || loss instanceof OutOfMemory || isFinal(seen)) return loss;
          const told = evictionOf(await warningsAbout(cluster.api, seen, asking));
          if (told !== null) return told;
          until ??= performance.now() + LATE_REASON_MS;
          if (performance.now() > until) return loss;
          await pause(REASON_PAUSE_MS, asking);
        }
      } catch (error) {
        asking.throwIfAborted();
        // If the API server does not answer, that says nothing about the pod.
        if (error instanceof ApiFailure) return null;
        throw error;
      }
    };
    const whenLost = async (asking: AbortSignal): Promise<Error> => {
      for (;;) {
        const seen = pod.view.pod;
        // What a watch tells may be old: it is asked for once more.
        const loss = seen !== undefined && lossOf(seen, facts) !== null ? await lost(asking) : null;
        if (loss !== null) return loss;
        await pod.view.changed(LONGEST_LOOK_MS, asking).catch(() => pause(AGAIN_MS, asking));
      }
    };
    const place = { api: cluster.api, namespace, pod: pod.name, container: name, lost };
    const plain = podCommands(place);
    const env =
      name === "build" && about.hasEntrypoint ? await entrypointEnvironment(plain, image, settings, signal) : [];
    const [tools, home] = await all([
      probeTools(plain, signal),
      runToEnd(plain, { script: HAS_HOME, args: [] }, 1024, signal),
    ]);
    const hasHome = home.stdout.toString("utf8").trim() === "yes";
    const added = [...env, ...(hasHome ? [] : [`HOME=${places.tmpDir}`])];
    const commands = added.length === 0 ? plain : podCommands({ ...place, env: added });
    return { name, image, tools, commands, memoryLimit, lost, whenLost };
  };
  if (pod.alone !== null) {
    const build = await describe("build", about.buildImage);
    if (build.tools.programs.has("git")) return { build, helper: build };
    throw new SystemFailure(
      `No image with git for the runner's own work: ${pod.alone}; and the job's image has no git. Set helper_image in [${TABLE}] to an image with sh and git`,
      { reason: "runner_configuration_error" },
    );
  }
  const [build, helper] = await all([describe("build", about.buildImage), describe("helper", about.helperImage)]);
  return { build, helper };
}

async function entrypointEnvironment(
  commands: RemoteCommands,
  image: string,
  { pollTimeoutMs }: KubernetesSettings,
  signal: AbortSignal,
): Promise<string[]> {
  const args = [String(Math.ceil(pollTimeoutMs / 1000)), ENTRYPOINT_FILE];
  const asked = runToEnd(commands, { script: ENTRYPOINT_ENVIRONMENT, args }, 1024 * 1024, signal);
  const { code, stdout } = await unlessAborted(asked, signal);
  if (code !== 0)
    throw new ScriptFailure(`The entrypoint of the image ${image} does not start the command it is given`);
  const [with_ = "", without = ""] = stdout.toString("utf8").split("\0\0");
  const plain = new Set(without.split("\0"));
  const own = /^(?:_|PWD|OLDPWD|SHLVL)=/;
  return with_.split("\0").filter((entry) => entry.includes("=") && !plain.has(entry) && !own.test(entry));
}

async function makePlaces(
  { build, helper }: Containers,
  places: Places,
  notes: Notes,
  signal: AbortSignal,
): Promise<void> {
  const { uid, gid } = build.tools;
  const { buildsDir, root, tmpDir, scriptsDir } = places;
  // A helper that is root makes the directories and gives them away; else the user of the scripts makes them.
  const maker = helper.tools.uid === 0 ? helper : build;
  const args = [uid, gid, buildsDir, root, tmpDir, scriptsDir].map((arg) =>
    Buffer.from(String(arg)).toString("latin1"),
  );
  const { code, stderr } = await runToEnd(maker.commands, { script: MAKE_PLACES, args }, 64 * 1024, signal);
  if (code !== 0) {
    const why = stderr.trim().split("\n").at(-1) ?? "";
    throw new SystemFailure(`The job's directories cannot be made in the ${maker.name} container: ${why}`, {
      reason: "runner_configuration_error",
    });
  }
  if (helper !== build && helper.tools.uid > 0 && helper.tools.uid !== uid) {
    notes.print(
      `The build container runs as user ${uid} and the helper as ${helper.tools.uid}: what the one has made the other may not be able to change. Set run_as_user in [${TABLE}.pod_security_context]`,
      "warning",
    );
  }
}

/** @throws {ScriptFailure} the operator wants one that the job's image has not */
function shellOf(configured: ShellName | undefined, { tools, image }: JobContainer): ShellName {
  const found = configured ?? (tools.bash === null ? "sh" : "bash");
  if ((found === "bash" && tools.bash === null) || (found === "pwsh" && !tools.programs.has(found))) {
    throw new ScriptFailure(
      `The image ${image} has no ${found} on its PATH, and jobs of this runner are written for it (shell = "${found}"): use another image`,
    );
  }
  return found;
}
