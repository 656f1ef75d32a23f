/** Names of images, read as Docker reads them. */

export interface ImageReference {
  /** `docker.io`, `registry.example.com:5000`: lower case. */
  readonly registry: string;
  /** `library/ruby`, `team/app`. */
  readonly repository: string;
  /** `2.1`; with a digest and no tag: `null`. */
  readonly tag: string | null;
  /** `sha256:…` */
  readonly digest: string | null;
}

const COMPONENT = /^[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*$/;
const REGISTRY =
  /^(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[a-fA-F0-9:]+\])(?::\d{1,5})?$/;
const TAG = /^\w[\w.-]{0,127}$/;
const DIGEST = /^[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[0-9a-fA-F]{32,}$/;

export const DOCKER_HUB = "docker.io";
const HUB_ALIASES = ["docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];

/** `sha256:` and 64 digits: an image of the engine itself, by its id. */
export function isImageId(name: string): boolean {
  return /^sha256:[0-9a-f]{64}$/.test(name);
}

/** What Docker takes for an id as well, when there is no such name: hexadecimal digits alone. */
function looksLikeId(name: string): boolean {
  return /^[0-9a-f]{64}$/.test(name);
}

/** The parts of a name with Docker's defaults filled in, or `null` where Docker would refuse it. */
export function parseReference(name: string): ImageReference | null {
  if (name.length > 1024 || isImageId(name) || looksLikeId(name)) return null;
  const at = name.indexOf("@");
  const digest = at < 0 ? null : name.slice(at + 1);
  if (digest !== null && !DIGEST.test(digest)) return null;
  const rest = at < 0 ? name : name.slice(0, at);
  const slash = rest.indexOf("/");
  const first = slash < 0 ? "" : rest.slice(0, slash);
  // As Docker decides it: a name before the first slash is a registry when it cannot be a part of a path.
  const named = slash >= 0 && (/[.:]/.test(first) || first === "localhost" || first !== first.toLowerCase());
  const path = named ? rest.slice(slash + 1) : rest;
  const colon = path.lastIndexOf(":");
  const tag = colon < 0 ? null : path.slice(colon + 1);
  let repository = colon < 0 ? path : path.slice(0, colon);
  if ((named && !REGISTRY.test(first)) || (tag !== null && !TAG.test(tag))) return null;
  if (!repository.split("/").every((part) => COMPONENT.test(part))) return null;
  let registry = named ? first.toLowerCase() : DOCKER_HUB;
  if (HUB_ALIASES.includes(registry)) registry = DOCKER_HUB;
  if (registry === DOCKER_HUB && !repository.includes("/")) repository = `library/${repository}`;
  if (`${registry}/${repository}`.length > 255) return null;
  const untagged = tag === null && digest === null;
  return { registry, repository, tag: untagged ? "latest" : tag, digest };
}

/** `docker.io/library/ruby:2.1`, with everything written out. */
export function canonicalName(reference: ImageReference): string {
  return `${baseName(reference)}${reference.tag === null ? "" : `:${reference.tag}`}${reference.digest === null ? "" : `@${reference.digest}`}`;
}

/** The same without tag and digest: `docker.io/library/ruby`. */
export function baseName({ registry, repository }: ImageReference): string {
  return `${registry}/${repository}`;
}
