import { join } from "node:path";
import type { Writable } from "node:stream";
import { SystemFailure } from "../../src/errors.ts";
import type { Environment, ExecutorDeps, PrepareRequest } from "../../src/executor.ts";
import type { ShellName } from "../../src/shell.ts";
import { homeDirectory } from "../common/home.ts";
import { matchesAny } from "./allowed.ts";
import { containerCommands } from "./commands.ts";
import { createContainer, explainNoShell, NoShellFailure } from "./container.ts";
import { inlineProfiles, type JobContainerParts, jobContainer, serviceContainer } from "./container-config.ts";
import { openLogins } from "./credentials.ts";
import type { Engine } from "./engine.ts";
import { createEnvironment, type JobContainer } from "./environment.ts";
import type { HelperImages } from "./helper-image.ts";
import type { ObtainedImage } from "./image.ts";
import { createImageSource, type Wanted, type WantedService, wantedImages } from "./job-images.ts";
import { type JobMarks, jobLabels, LABELS, type Owner } from "./labels.ts";
import { configuredNetwork, type JobNetwork } from "./network.ts";
import type { NetworkLoan } from "./network-pool.ts";
import { choosePlaces, type Places, uniqueName } from "./places.ts";
import { preparePlaces, REMOVE, REMOVED } from "./prepare-places.ts";
import { removeContainer } from "./remove.ts";
import { nameServices } from "./service-names.ts";
import { serviceVariables } from "./service-variables.ts";
import { addressOf, type RunningService, startService, waitForServices, warn } from "./services.ts";
import type { DockerSettings } from "./settings.ts";
import { slotLabel } from "./slots.ts";
import { addedVariables, startWithTools } from "./tools-at-start.ts";
import { createVolumes, type JobVolumes } from "./volumes.ts";

export interface PrepareJobOptions {
  readonly engine: Engine;
  readonly settings: DockerSettings;
  readonly deps: ExecutorDeps;
  readonly owner: Owner;
  readonly helperImages: HelperImages;
  readonly request: PrepareRequest;
  readonly slot: number;
  /** Goes back with `destroy`. */
  readonly network: NetworkLoan;
  readonly destroy: (signal: AbortSignal) => Promise<void>;
}

/** What all steps of one preparation share. */
export interface Scene extends PrepareJobOptions {
  readonly notes: Writable;
  readonly marks: JobMarks;
  readonly places: Places;
  readonly wanted: Wanted;
  readonly naming: ReturnType<typeof nameServices>;
  readonly unique: string;
  readonly apiVersion: readonly [number, number];
  readonly securityOpt: readonly string[];
  readonly obtain: ReturnType<typeof createImageSource>;
}

export const DEFAULT_BUILDS_DIR = "/builds";

/** A checkout made by one container's user is read by another's: git asks for that to be said. */
function gitTrust(root: string): string[] {
  return ["GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", `GIT_CONFIG_VALUE_0=${root}`];
}

/** What is the same for every way of running a job in containers: its images are checked, its places and logins are known. */
export async function openScene(options: PrepareJobOptions, notes: Writable): Promise<Scene> {
  const { engine, settings, deps, request, slot } = options;
  const { job, expand } = request;
  const wanted = wantedImages({ settings, image: job.image, services: job.services, expand });
  const naming = nameServices(wanted.services, [hostOf(job.git.repoUrl)]);
  for (const warning of naming.warnings) warn(notes, warning);
  const buildsDir = deps.buildsDir ?? DEFAULT_BUILDS_DIR;
  const places = choosePlaces({ buildsDir, settings, request, slot });
  const env = process.env;
  const logins = await openLogins({
    jobConfig: job.variables.findLast(({ key }) => key === "DOCKER_AUTH_CONFIG")?.value,
    operatorConfig: env.DOCKER_AUTH_CONFIG,
    jobCredentials: job.credentials,
    configDir: env.DOCKER_CONFIG || join(homeDirectory(), ".docker"),
    home: homeDirectory(),
    env,
    hide: (secrets) => request.hide?.(secrets),
  });
  for (const warning of logins.warnings) warn(notes, warning);
  return {
    ...options,
    notes,
    marks: { owner: options.owner, request },
    places,
    wanted,
    naming,
    unique: uniqueName(request.runnerId, job.projectId, slot),
    apiVersion: versionOf(engine.apiVersion),
    securityOpt: await inlineProfiles(settings.securityOpt),
    obtain: createImageSource(engine, logins, notes),
  };
}

/**
 * Everything that one job runs in: network, volumes, services, the container of its image and the one with git. Whatever was made
 * when this rejects carries the job's key: `destroy` finds it.
 */
export async function prepareJob(
  options: PrepareJobOptions,
  notes: Writable,
  signal: AbortSignal,
): Promise<Environment> {
  const { engine, settings, deps, request, slot } = options;
  const { expand } = request;
  const scene = await openScene(options, notes);
  const { naming, places, wanted } = scene;

  const [network, volumes, image] = await all([
    networkOf(scene, signal),
    createVolumes(engine, { ...scene, workingDirectory: deps.workingDirectory, expand }, signal),
    scene.obtain(wanted.image, signal),
  ]);
  // On a network of the operator's the build container learns its services' addresses when it is created.
  const starting = startServices(scene, network, volumes, naming.services, signal);
  starting.catch(() => {});
  const hosts = network.own ? [] : await hostEntries(engine, network, await starting, signal);
  const [build, services] = await all([startBuild(scene, network, volumes, image, hosts, signal), starting]);
  const helper = await startHelper(scene, network, volumes, build, signal);
  const helperCommands = containerCommands({ engine, container: helper.id, name: helper.name, user: "0" });
  const loopback = network.mode === "host" || network.mode.startsWith("container:");
  const limitMs = network.mode === "none" ? null : settings.waitForServicesMs;
  await waitForServices(engine, { services, limitMs, helper: helperCommands, loopback, notes }, signal);

  return createEnvironment({
    engine,
    jobKey: request.jobKey,
    shell: shellOf(deps.shell, build),
    build,
    helper,
    places,
    slot,
    memoryBytes: settings.limits.memoryBytes,
    killLeftovers: deps.killLeftovers,
    killGraceMs: deps.killGraceMs,
    revive: async (output, reviving) => {
      await startWithTools(engine, { id: build.id, name: build.name, first: null }, output, reviving);
    },
    destroy: options.destroy,
  });
}

/** All of them, or the first failure once none is under way any more: nothing is made behind the back of a clean-up. */
export async function all<T extends readonly unknown[]>(
  promises: readonly [...{ [K in keyof T]: Promise<T[K]> }],
): Promise<T> {
  await Promise.allSettled(promises);
  return await Promise.all(promises);
}

function shellOf(configured: ShellName | undefined, build: JobContainer): ShellName {
  return configured ?? (build.tools.bash === null ? "sh" : "bash");
}

function hostOf(url: string): string {
  return URL.canParse(url) ? new URL(url).hostname : "";
}

function versionOf(text: string): [number, number] {
  const [major = "1", minor = "0"] = text.split(".");
  return [Number(major), Number(minor)];
}

export async function networkOf(scene: Scene, signal: AbortSignal): Promise<JobNetwork> {
  const configured = configuredNetwork(scene.settings);
  return configured ?? { own: true, mode: await scene.network.take(signal) };
}

export type Common = Pick<JobContainerParts, "settings" | "apiVersion" | "podman" | "networkMode" | "securityOpt">;

export function common({ settings, apiVersion, engine, securityOpt }: Scene, networkMode: string): Common {
  return { settings, apiVersion, podman: engine.podman, networkMode, securityOpt };
}

export function nameOf({ unique, request }: Scene, role: string): string {
  return `${unique}-${request.jobKey.slice(-12)}-${role}-${Math.random().toString(16).slice(2, 8)}`;
}

/** Start all services at once. */
export async function startServices(
  scene: Scene,
  network: JobNetwork,
  volumes: JobVolumes,
  named: readonly { readonly index: number; readonly names: readonly string[] }[],
  signal: AbortSignal,
): Promise<readonly RunningService[]> {
  const { engine, settings, wanted, request, places, notes } = scene;
  const securityOpt = settings.servicesSecurityOpt.length > 0 ? await inlineProfiles(settings.servicesSecurityOpt) : [];
  // Their root could read what is not theirs in the job's temporary directory.
  const binds = volumes.binds.filter((bind) => !bindTargets(bind).includes(places.buildsDir));
  const start = async (service: WantedService, names: readonly string[]): Promise<RunningService> => {
    const image = await scene.obtain(service, signal);
    const devices = Object.entries(settings.servicesDevices)
      .filter(([pattern]) => matchesAny(service.name, [pattern]))
      .flatMap(([, list]) => list);
    const body = serviceContainer({
      ...common(scene, network.mode),
      securityOpt,
      image: image.id,
      labels: { ...jobLabels(scene.marks, "service"), "com.gitlab.gitlab-runner.service": service.name },
      aliases: network.own ? names : [],
      privileged: service.privileged,
      binds,
      env: serviceVariables(request.job.variables, service.variables, request.expand),
      entrypoint: service.entrypoint,
      command: service.command,
      devices,
    });
    const named = { ...body, name: nameOf(scene, "service"), ...(service.user === null ? {} : { User: service.user }) };
    return await startService(engine, { wanted: service, image, names, body: named }, signal);
  };
  if (network.mode === "none" && wanted.services.length > 0) {
    warn(notes, 'The services of the job cannot be reached: network_mode in [runners.docker] is "none"');
  }
  const started = named.map(async ({ index, names }) => {
    const service = wanted.services[index];
    return service === undefined ? [] : [await start(service, names)];
  });
  await Promise.allSettled(started);
  return (await Promise.all(started)).flat();
}

function bindTargets(bind: string): string[] {
  return bind.split(":").slice(1, 2);
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

async function startBuild(
  scene: Scene,
  network: JobNetwork,
  volumes: JobVolumes,
  image: ObtainedImage,
  hosts: readonly string[],
  signal: AbortSignal,
): Promise<JobContainer> {
  const { engine, settings, wanted, marks, places, notes } = scene;
  const { entrypoint } = wanted.image;
  const name = `the build container (image ${image.name})`;
  const env = gitTrust(places.root);
  const attempt = async (withEntrypoint: boolean): Promise<JobContainer> => {
    const body = jobContainer({
      ...common(scene, network.mode),
      image: image.id,
      labels: {
        ...jobLabels(marks, "build"),
        ...(volumes.keepsBuilds ? { [LABELS.tmpDir]: places.tmpDir } : {}),
      },
      aliases: network.own ? ["build"] : [],
      privileged: wanted.image.privileged,
      binds: volumes.binds,
      hostname: settings.hostname ?? scene.unique,
      env,
      user: wanted.image.user,
      entrypoint: withEntrypoint ? entrypoint : ["sh"],
      command: withEntrypoint ? ["sh"] : [],
      extraHosts: [...settings.extraHosts, ...hosts],
    });
    const id = await createContainer(engine, name, { ...body, name: nameOf(scene, "build") }, signal);
    try {
      const { tools, environment } = await startWithTools(engine, { id, name, first: null }, notes, signal);
      if (!withEntrypoint) return { id, name: "the build container", tools, user: undefined, env: [] };
      // Scripts see what the ENTRYPOINT set up, and run as whom it chose.
      const dropped = tools.uid > 0 && /^(?:0|root)?(?::|$)/.test(wanted.image.user ?? image.user);
      return {
        id,
        name: "the build container",
        tools,
        user: dropped ? `${tools.uid}:${tools.gid}` : undefined,
        env: addedVariables(environment, [...image.env, ...env]),
      };
    } catch (error) {
      if (error instanceof NoShellFailure) await removeContainer(engine, id, signal);
      throw error;
    }
  };

  const given = entrypoint ?? image.entrypoint;
  const hasEntrypoint = given.some((word) => word !== "");
  try {
    return await attempt(hasEntrypoint);
  } catch (error) {
    if (!(error instanceof NoShellFailure)) throw error;
    if (!hasEntrypoint || entrypoint !== null) throw explainNoShell(image.name, error, hasEntrypoint);
    warn(
      notes,
      `The ENTRYPOINT ${JSON.stringify(image.entrypoint)} of the image ${image.name} does not start the command it is given: going on without it. Set "entrypoint" of the job's image to [""] to spare the attempt`,
    );
    return await attempt(false).catch((second: unknown) => {
      throw second instanceof NoShellFailure ? explainNoShell(image.name, second, false) : second;
    });
  }
}

/**
 * The container with git: in the build container's network, which costs half of joining it anew. It works as the job's user, so
 * that the checkout is that user's; only its first steps are root's.
 */
async function startHelper(
  scene: Scene,
  network: JobNetwork,
  volumes: JobVolumes,
  build: JobContainer,
  signal: AbortSignal,
): Promise<JobContainer> {
  const { engine, settings, wanted, marks, places, notes, request, slot, helperImages } = scene;
  const choice = await helperImages.choose(
    {
      settings,
      engine,
      obtain: scene.obtain,
      buildHasGit: async () => build.tools.programs.has("git"),
      notes,
    },
    signal,
  );
  const { uid, gid } = build.tools;
  const first = preparePlaces({ places, uid, gid, open: volumes.open });
  if (choice.in === "build") {
    await setUpIn(engine, build, first, signal);
    return build;
  }
  const name = `the helper container (image ${choice.image.name})`;
  const shares = network.own || network.mode === "bridge" || network.mode === "default";
  const body = jobContainer({
    ...common(scene, shares ? `container:${build.id}` : network.mode),
    image: choice.image.id,
    labels: {
      ...jobLabels(marks, "helper"),
      [LABELS.slot]: slotLabel(request.runnerId, request.job.projectId, slot),
      ...(volumes.keepsBuilds ? { [LABELS.tmpDir]: places.tmpDir, [LABELS.tidies]: "1" } : {}),
    },
    aliases: [],
    privileged: wanted.image.privileged,
    binds: volumes.binds,
    hostname: settings.hostname ?? scene.unique,
    env: gitTrust(places.root),
    user: "0",
    entrypoint: ["sh"],
    command: [],
    extraHosts: settings.extraHosts,
  });
  const id = await createContainer(engine, name, { ...body, name: nameOf(scene, "helper") }, signal);
  const last = { script: REMOVE, args: [places.tmpDir], status: REMOVED };
  const { tools } = await startWithTools(engine, { id, name, first, last }, notes, signal).catch((error: unknown) => {
    if (!(error instanceof NoShellFailure)) throw error;
    throw new SystemFailure(`${error.message}. helper_image in [runners.docker] must have sh and git`, {
      reason: "runner_configuration_error",
      cause: error,
    });
  });
  const user = uid > 0 ? `${uid}:${Math.max(gid, 0)}` : undefined;
  // Git wants a home that its user may write to.
  const env = user === undefined ? [] : [`HOME=${places.tmpDir}`];
  return { id, name: "the helper container", tools, user, env };
}

/** The build container serves as the helper, too. */
async function setUpIn(
  engine: Engine,
  build: JobContainer,
  { script, args }: ReturnType<typeof preparePlaces>,
  signal: AbortSignal,
): Promise<void> {
  const commands = containerCommands({ engine, container: build.id, name: build.name, user: "0" });
  const bytes = args.map((arg) => Buffer.from(arg).toString("latin1"));
  const process = await commands.start({ script, args: bytes }, signal);
  process.stdout.resume();
  const { code, stderr } = await process.exit;
  if (code === 0) return;
  throw new SystemFailure(`Cannot set up the builds directory in ${build.name}: ${stderr.trim().slice(-500)}`, {
    retry: true,
  });
}
