import type { Readable } from "node:stream";
import { describeError, ScriptFailure, Stop, SystemFailure } from "../../../src/errors.ts";
import type { Notes } from "../../../src/executor/prepare.ts";
import type { FoundLogin, RegistryLogins } from "../../images/logins.ts";
import type { PullPolicy } from "../../images/policy.ts";
import { PullFailure, pullFailure } from "../../images/pull-failure.ts";
import { baseName, canonicalName, type ImageReference, isImageId, parseReference } from "../../images/reference.ts";
import type { WantedImage } from "../../images/wanted.ts";
import { type Engine, EngineFailure } from "../engine/engine.ts";
import type { JobUses } from "../kept/uses.ts";
import { fitsPlatform, inspectImage, type ObtainedImage } from "./image.ts";
import { createPullProgress, progressSchema } from "./pull-progress.ts";

interface ImageRequest {
  /** Expanded; short, full, with tag or digest, or an id. */
  readonly name: string;
  /** Tried in turn, at least one. */
  readonly policies: readonly PullPolicy[];
  /** `linux/arm64`; `null`: the engine's own. */
  readonly platform: string | null;
  readonly logins: RegistryLogins;
}

/** A slow registry may take long to name the first layer; the daemon says nothing until then. */
const START_LIMIT_MS = 600_000;
/** Longest silence within a pull: unpacking a large layer is reported now and then. */
const SILENCE_LIMIT_MS = 600_000;
const LONGEST_LINE = 1024 * 1024;

/**
 * The image, from the engine or a registry as the policies say. `notes` shows where it came from.
 * @throws {ScriptFailure} the name is none
 * @throws {SystemFailure} it cannot be had; `retry` where the registry or the network may be better next time
 */
export async function obtainImage(
  engine: Engine,
  request: ImageRequest,
  notes: Notes,
  signal: AbortSignal,
): Promise<ObtainedImage> {
  const { name, policies, platform } = request;
  if (platform !== null && !/^[a-z0-9]+(?:\/[a-z0-9_]+){0,2}$/i.test(platform)) {
    throw new ScriptFailure(`${JSON.stringify(platform.slice(0, 100))} is no platform. Write it as linux/arm64`);
  }
  if (isImageId(name)) {
    const local = await inspectImage(engine, name, name, signal);
    if (local !== null) return local;
    throw new SystemFailure(`The engine has no image ${name}`, { reason: "image_pull_failure" });
  }
  const reference = parseReference(name);
  if (reference === null) {
    throw new ScriptFailure(
      `${JSON.stringify(name.slice(0, 200))} is no name of an image. Write it as ruby:3.3 or registry.example.com/group/app:1.0`,
    );
  }

  const sought: Sought = { engine, reference, request, notes };
  let failure: unknown;
  let mayPull = true;
  for (const [index, policy] of policies.entries()) {
    if (index > 0) notes.print(`${describeError(failure)}\nTrying pull policy "${policy}" instead`);
    try {
      if (policy !== "always") {
        const local = await lookHere(policy, sought, signal);
        if (local !== null) return local;
      }
      // Once is enough: what failed a moment ago would fail again.
      if (mayPull) {
        mayPull = false;
        return await pull(sought, signal);
      }
    } catch (error) {
      signal.throwIfAborted();
      // Where the daemon does not answer, the next policy is of no help.
      if (error instanceof EngineFailure && error.status === 0) throw error;
      failure = error;
    }
  }
  throw failure;
}

/** One image, and where to look for it. */
interface Sought {
  readonly engine: Engine;
  readonly reference: ImageReference;
  readonly request: ImageRequest;
  readonly notes: Notes;
}

/**
 * The image that the engine has, if it has the right one.
 * @throws {SystemFailure} it has none, and none may be pulled
 */
async function lookHere(
  policy: PullPolicy,
  { engine, reference, request: { name, platform }, notes }: Sought,
  signal: AbortSignal,
): Promise<ObtainedImage | null> {
  // The full name: a short one could also be the beginning of some image's id.
  const local = await inspectImage(engine, canonicalName(reference), name, signal);
  if (local !== null && (platform === null || fitsPlatform(local, platform))) {
    notes.print(`Using image ${name} that is here already (${shortId(local.id)}), by pull policy "${policy}"`);
    return local;
  }
  if (policy === "if-not-present") return null;
  const which = local === null ? "" : ` for ${platform}`;
  throw new SystemFailure(
    `The engine has no image "${name}"${which}, and pull policy "never" forbids to pull it. Pull it by hand, or allow another pull policy`,
    { reason: "image_pull_failure" },
  );
}

async function pull(sought: Sought, signal: AbortSignal): Promise<ObtainedImage> {
  const { reference, notes } = sought;
  const { name, logins } = sought.request;
  const known = logins.warnings.length;
  const found = await logins.find(reference, signal);
  for (const warning of logins.warnings.slice(known)) notes.print(warning, "warning");
  const tries: readonly (FoundLogin | null)[] = found.length === 0 ? [null] : found;
  let failure: unknown;
  for (const login of tries) {
    const as = login === null ? "" : `, with the login of ${login.from}`;
    notes.print(`Pulling image ${name}${as}`);
    try {
      return await pullOnce(sought, login, signal);
    } catch (error) {
      signal.throwIfAborted();
      failure = error;
      if (!(error instanceof PullFailure && error.wantsLogin)) throw error;
      if (login !== tries.at(-1)) notes.print(error.message);
    }
  }
  throw failure;
}

async function pullOnce(
  { engine, reference, request: { name, platform }, notes }: Sought,
  login: FoundLogin | null,
  signal: AbortSignal,
): Promise<ObtainedImage> {
  const as = login?.from ?? "";
  const started = performance.now();
  using silence = createSilence(signal);
  const progress = createPullProgress(name, notes);
  let digest: string | null = null;
  let complete = engine.podman;
  const before = await inspectImage(engine, canonicalName(reference), name, signal);
  try {
    const stream = await engine.call(
      `pull the image "${name}"`,
      async (docker, abortSignal): Promise<NodeJS.ReadableStream> =>
        await docker.createImage(login?.login ?? {}, {
          fromImage: baseName(reference),
          tag: reference.digest ?? reference.tag ?? "latest",
          ...(platform === null ? {} : { platform }),
          abortSignal,
        }),
      silence.signal,
      START_LIMIT_MS,
    );
    for await (const line of jsonLines(stream)) {
      silence.heard();
      const parsed = progressSchema.safeParse(line);
      if (!parsed.success) continue;
      const problem = parsed.data.errorDetail?.message ?? parsed.data.error;
      if (problem !== undefined) throw pullFailure(name, problem, as);
      const status = parsed.data.status ?? "";
      digest = /^Digest: (sha256:[0-9a-f]{64})$/.exec(status)?.[1] ?? digest;
      if (/^Status: /.test(status)) complete = true;
      progress.add(parsed.data);
    }
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof PullFailure) throw error;
    if (error instanceof EngineFailure) {
      if (error.status === 0) throw error;
      throw pullFailure(name, describeError(error.cause ?? error), as, error);
    }
    throw new SystemFailure(`The pull of the image "${name}" ended early: ${describeError(error)}`, {
      retry: true,
      reason: "image_pull_failure",
      cause: error,
    });
  }
  if (!complete) {
    throw new SystemFailure(`The pull of the image "${name}" ended early: the engine did not say that it is complete`, {
      retry: true,
      reason: "image_pull_failure",
    });
  }
  // By its digest: the tag may be moved by another pull at any moment.
  const exact = digest === null ? null : await inspectImage(engine, `${baseName(reference)}@${digest}`, name, signal);
  const image = exact ?? (await inspectImage(engine, canonicalName(reference), name, signal));
  if (image === null) {
    throw new SystemFailure(`The image "${name}" was pulled, but the engine does not have it`, { retry: true });
  }
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  const what = progress.summary();
  notes.print(`Pulled image ${name} (${shortId(image.id)}${what === "" ? "" : `, ${what}`}) in ${seconds} s`);
  // One whose layers were all there may have been there itself, by another name; Podman does not tell them apart.
  const isNew = progress.isNew && image.id !== before?.id && image.tags.length <= 1;
  return { ...image, pulled: isNew ? "new" : "known" };
}

/** Fires with `parent`, or when nothing was heard for too long. */
function createSilence(parent: AbortSignal): Disposable & { readonly signal: AbortSignal; heard(): void } {
  let last = performance.now();
  const controller = new AbortController();
  const onParent = (): void => controller.abort(parent.reason);
  if (parent.aborted) onParent();
  else parent.addEventListener("abort", onParent, { once: true });
  const timer = setInterval(() => {
    if (performance.now() - last < SILENCE_LIMIT_MS) return;
    controller.abort(new Stop("timed_out", `the engine said nothing for ${SILENCE_LIMIT_MS / 1000} s`));
  }, SILENCE_LIMIT_MS / 20);
  return {
    signal: controller.signal,
    heard: () => {
      last = performance.now();
    },
    [Symbol.dispose]: () => {
      clearInterval(timer);
      parent.removeEventListener("abort", onParent);
    },
  };
}

/** JSON texts, one a line. Lines that are none are left out. */
async function* jsonLines(stream: NodeJS.ReadableStream | Readable): AsyncGenerator<unknown> {
  let rest = "";
  const decoder = new TextDecoder();
  for await (const chunk of stream) {
    rest += typeof chunk === "string" ? chunk : decoder.decode(chunk, { stream: true });
    const lines = rest.split("\n");
    rest = lines.pop() ?? "";
    if (rest.length > LONGEST_LINE) throw new Error("the engine sent a line of more than a megabyte");
    for (const line of lines) yield* parsed(line);
  }
  yield* parsed(rest);
}

function* parsed(line: string): Generator<unknown> {
  if (line.trim() === "") return;
  try {
    yield JSON.parse(line);
  } catch {}
}

/** `3f2a8c19b0d4` */
function shortId(id: string): string {
  return id.replace(/^sha256:/, "").slice(0, 12);
}

/** With those of its names by which this runner has pulled it. */
function ownNames(image: ObtainedImage): ObtainedImage & { readonly names: readonly string[] } {
  const { name, tags, pulled } = image;
  if (pulled === undefined) return { ...image, names: [] };
  if (pulled === "new") return { ...image, names: tags };
  const fullName = (text: string): string | null => {
    const reference = parseReference(text);
    return reference === null ? null : canonicalName(reference);
  };
  return { ...image, names: tags.filter((tag) => fullName(tag) === fullName(name)) };
}

/** Pull what is wanted, each image once, also for services that start at the same time. */
export function createImageSource(
  engine: Engine,
  logins: RegistryLogins,
  notes: Notes,
  uses: Pick<JobUses, "image">,
): (wanted: Pick<WantedImage, "name" | "policies" | "platform">, signal: AbortSignal) => Promise<ObtainedImage> {
  const obtained = new Map<string, Promise<ObtainedImage>>();
  return async ({ name, policies, platform }, signal) => {
    const key = JSON.stringify([name, platform, policies]);
    const sought = { name, policies, platform, logins };
    const image =
      obtained.get(key) ?? uses.image(async () => ownNames(await obtainImage(engine, sought, notes, signal)));
    obtained.set(key, image);
    return await image;
  };
}
