import { ScriptFailure } from "../../../src/errors.ts";
import type { Environment } from "../../../src/executor/environment.ts";
import type { Notes } from "../../../src/executor/prepare.ts";
import type { ShellName } from "../../../src/shell.ts";
import { all } from "../../../src/time.ts";
import { refuseChosenRoot } from "../../common/places/chosen-root.ts";
import type { JobContainer } from "../container/job-container.ts";
import type { Places } from "../container/places.ts";
import { handOver, preparePlaces, showAccount } from "../container/prepare-places.ts";
import { putPlaces } from "../container/put-places.ts";
import { startWithTools } from "../container/tools-at-start.ts";
import { containerCommands } from "../engine/commands.ts";
import { jobLabels } from "../engine/labels.ts";
import { noHelper } from "../image/helper-image.ts";
import type { ObtainedImage } from "../image/image.ts";
import { TABLE } from "../settings/settings.ts";
import type { Account } from "./accounts/account.ts";
import { type BuildParts, hasEntrypoint, startBuild } from "./build-container.ts";
import { createEnvironment } from "./environment.ts";
import { formerCachesOf } from "./former-caches.ts";
import { createHelper, runStep, startHelper, worksAs } from "./helper-container.ts";
import { canLast, lastingParts } from "./lasting/prepared.ts";
import type { JobNetwork } from "./network/network.ts";
import {
  inNetwork,
  nameOf,
  networkOf,
  networkVariables,
  openScene,
  type PrepareJobOptions,
  type Scene,
} from "./scene.ts";
import { followServices } from "./services/follow-logs.ts";
import { waitForServices } from "./services/services.ts";
import { hostEntries, startServices } from "./services/start-services.ts";
import { createVolumes, type JobVolumes } from "./volumes.ts";
import { keptFilesOf } from "./workspace.ts";

/**
 * Everything that one job runs in: network, volumes, services, the container with git and the one of the job's image. Whatever
 * was made when this rejects carries the job's key: `destroy` finds it.
 *
 * Who is root: the helper's first steps only, in an image that the operator chose. Nothing in the job's image runs as anybody
 * but the job's user, who is known before any of it runs (`accounts.ts`); the job's places are made and given to that user while
 * the job's container has not been started (`prepare-places.ts`). What must be done against the job's will, such as ending its
 * processes, is the engine's work (`environment.ts`).
 */
export async function prepareJob(options: PrepareJobOptions, notes: Notes, signal: AbortSignal): Promise<Environment> {
  const { engine, settings, deps, request, slot } = options;
  const { expand } = request;
  const opened = await openScene(options, notes);
  const { naming, places, wanted } = opened;

  const [network, volumes, image] = await all([
    networkOf(opened, signal),
    createVolumes(engine, { ...opened, workingDirectory: deps.host.working, privateVolume: true, expand }, signal),
    opened.obtain(wanted.image, signal),
  ]);
  const scene = inNetwork(opened, network);
  // On a network of the operator's the build container learns its services' addresses when it is created.
  const starting = startServices(scene, network, volumes, naming.services, signal);
  starting.catch(() => {});
  const hosts = network.own ? [] : await hostEntries(engine, network, await starting, signal);
  const [{ build, helper }, services] = await all([
    startContainers(scene, { network, volumes, image, hosts }, signal),
    starting,
  ]);
  const shell = shellOf(deps.entry.shell, build);
  const helperCommands = containerCommands({
    engine,
    container: helper.id,
    name: helper.name,
    ...(helper.trusted ? { user: "0" } : {}),
  });
  // From here on, so that what a service says while it is waited for can be seen.
  const stopLogs = request.debugServices === true ? followServices(engine, services, notes) : async () => {};
  const loopback = network.mode === "host" || network.mode.startsWith("container:");
  const limitMs = network.mode === "none" ? null : settings.waitForServicesMs;
  try {
    await waitForServices(engine, { services, limitMs, helper: helperCommands, loopback, notes }, signal);
  } catch (error) {
    await stopLogs();
    throw error;
  }

  const keeps = keptFilesOf(scene);
  const imageSeconds = scene.imageSeconds();
  const lasting =
    options.lasting && canLast([build, helper], notes)
      ? await lastingParts({ scene, network, services, shell, build, helper, keeps, imageSeconds }, signal)
      : {};
  return createEnvironment({
    engine,
    ...lasting,
    jobKey: request.jobKey,
    shell,
    build,
    helper,
    places,
    variables: networkVariables(network.name),
    slot,
    keeps,
    memoryBytes: settings.limits.memoryBytes,
    imageSeconds,
    killLeftovers: deps.entry.killLeftovers,
    killGraceMs: deps.entry.killGraceMs,
    revive: async (output, reviving) => {
      await startWithTools(engine, { id: build.id, name: build.name, first: null }, output, reviving);
    },
    formerCache: formerCachesOf(scene, image.id),
    stopLogs,
    destroy: async (destroying) => {
      await stopLogs();
      await options.destroy(destroying);
    },
  });
}

interface Surroundings {
  readonly network: JobNetwork;
  readonly volumes: JobVolumes;
  readonly image: ObtainedImage;
  readonly hosts: readonly string[];
}

interface Containers {
  readonly build: JobContainer;
  /** May be the build container itself. */
  readonly helper: JobContainer;
}

async function startContainers(scene: Scene, around: Surroundings, signal: AbortSignal): Promise<Containers> {
  const { engine, settings, wanted, marks, accounts, helperImages, obtain } = scene;
  const { image } = around;
  const scratch = { name: nameOf(scene, "accounts"), labels: jobLabels(marks, "accounts") };
  const [account, choice] = await all([
    accounts.of({ engine, settings, wanted: wanted.image, image, scratch }, signal),
    helperImages.choose({ settings, expand: scene.request.expandSettled, obtain }, signal),
  ]);
  return choice.in === "own"
    ? await startBoth(scene, around, account, choice.image, signal)
    : await startAlone(scene, around, account, choice.why, signal);
}

/** The helper makes the places while the job's container is created; that one is started when they are ready. */
async function startBoth(
  scene: Scene,
  { network, volumes, image, hosts }: Surroundings,
  account: Account,
  helperImage: ObtainedImage,
  signal: AbortSignal,
): Promise<Containers> {
  const { places } = scene;
  const shares = network.own || network.mode === "bridge" || network.mode === "default";
  const mayDrop = account.uid === 0 && hasEntrypoint(scene, image);
  const owned = { places, uid: account.uid, gid: account.gid, open: volumes.open };
  const id = await createHelper(scene, { network, volumes, image: helperImage, hosts, account }, signal);
  const starting = startHelper(scene, { id, image: helperImage, prepare: preparePlaces(owned, mayDrop) }, signal);
  starting.catch(() => {});
  const parts: BuildParts = {
    image,
    account,
    volumes,
    hosts,
    networkMode: shares ? `container:${id}` : network.mode,
    aliases: [],
    ready: () => starting,
    first: mayDrop ? showAccount(places) : null,
  };
  const [helper, build] = await all([starting, startBuild(scene, parts, signal)]);
  if (build.user === undefined) return { build, helper: worksAs(helper, account.uid, account.gid, places.tmpDir) };
  mustNotHandOver(places, `only its ENTRYPOINT says who that is. Set user in [${TABLE}]`);
  const seen = await runStep(scene, { ...helper, user: "0" }, handOver(owned), signal);
  const [, uid, gid] = /^(\d+) (\d+)\n$/.exec(seen) ?? [];
  if (uid === undefined || gid === undefined || `${uid}:${gid}` !== build.user) {
    const said = `The image ${image.name} says that its ENTRYPOINT goes on as user ${build.user}`;
    scene.notes.print(`${said}, but its first process is another's: the checkout stays root's`, "warning");
    return { build, helper };
  }
  return { build, helper: worksAs(helper, Number(uid), Number(gid), places.tmpDir) };
}

/** The job's container serves as the helper, too. */
async function startAlone(
  scene: Scene,
  { network, volumes, image, hosts }: Surroundings,
  account: Account,
  why: string,
  signal: AbortSignal,
): Promise<Containers> {
  const { engine, places, notes } = scene;
  const parts: BuildParts = {
    image,
    account,
    volumes,
    hosts,
    networkMode: network.mode,
    aliases: network.own ? ["build"] : [],
    ready: async (id) => {
      if (account.uid > 0) mustNotHandOver(places, `there is no helper image. Set helper_image in [${TABLE}]`);
      if (account.uid > 0) await putPlaces(engine, { id, places, account }, signal);
    },
    first: null,
  };
  const build = await startBuild(scene, parts, signal);
  if (!build.tools.programs.has("git")) throw noHelper(why);
  notes.print(`Using git of the job's own image, because the helper image cannot be had: ${why}`);
  // With the rights that the image has anyway: of root, who may give it all to whom its ENTRYPOINT chose, or of the user's own.
  const [uid = "0", gid = "0"] = build.user?.split(":") ?? [];
  const owned = { places, uid: Number(uid), gid: Number(gid), open: account.uid === 0 ? volumes.open : [] };
  await runStep(scene, { id: build.id, name: build.name, user: undefined }, preparePlaces(owned, false), signal);
  return { build, helper: build };
}

/** @throws {SystemFailure} what it chose may be another's, and nobody could tell before it is the job's */
function mustNotHandOver({ chosen, root }: Places, why: string): void {
  if (chosen !== "among-others") return;
  throw refuseChosenRoot(root, `cannot be given to the job's user: ${why}`);
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
