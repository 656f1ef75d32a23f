import type { Writable } from "node:stream";
import { ScriptFailure, SystemFailure } from "../../src/errors.ts";
import type { Image, Service } from "../../src/job/job.ts";
import type { Engine } from "../docker/engine/engine.ts";
import type { ObtainedImage } from "../docker/image/image.ts";
import { obtainImage } from "../docker/image/pull.ts";
import type { DockerSettings, PullPolicy, ServiceSetting } from "../docker/settings/settings.ts";
import { isAllowed, matchesAny } from "./allowed.ts";
import type { RegistryLogins } from "./logins.ts";

/** One service of a job, from the entry or from the job itself, with its name expanded. */
export interface WantedService {
  /** Expanded. */
  readonly name: string;
  readonly aliases: readonly string[];
  readonly entrypoint: readonly string[] | null;
  readonly command: readonly string[] | null;
  /** The service's own, beside the job's public ones; raw values are not expanded. */
  readonly variables: readonly { readonly key: string; readonly value: string; readonly raw: boolean }[];
  readonly policies: readonly PullPolicy[];
  readonly platform: string | null;
  readonly user: string | null;
  /** What the operator or nobody restricts; see `privileged_images`. */
  readonly privileged: boolean;
}

/** The image that a job's scripts run in. */
export interface WantedImage {
  /** Expanded. */
  readonly name: string;
  /** `null`: the image's own, or none; an empty list switches it off. */
  readonly entrypoint: readonly string[] | null;
  readonly policies: readonly PullPolicy[];
  readonly platform: string | null;
  /** As the entry or, where it may, the job says. */
  readonly user: string | null;
  readonly privileged: boolean;
}

/** What a job asks for, as far as the entry's settings allow it. */
export interface Wanted {
  readonly image: WantedImage;
  readonly services: readonly WantedService[];
  /** What was left out, one sentence each. */
  readonly warnings: readonly string[];
}

export interface WantedRequest {
  readonly settings: DockerSettings;
  readonly image: Image | null;
  readonly services: readonly Service[];
  /** `$NAME` over the job's variables. */
  expand(text: string): string;
}

/**
 * Image and services of a job: expanded, with the entry's defaults, checked against what the entry allows. Nothing is asked of
 * the engine, so that what is refused costs nothing.
 * @throws {ScriptFailure} the job asks for what it may not have; never worth a retry
 * @throws {SystemFailure} neither the job nor the entry names an image
 */
export function wantedImages({ settings, image, services, expand }: WantedRequest): Wanted {
  const given = image === null ? "" : expand(image.name).trim();
  const fallback = expand(settings.image ?? "").trim();
  const name = given || fallback;
  if (name === "") {
    throw new SystemFailure(
      "No image to run the job in: the job names none, and neither does image in [runners.docker]",
      { reason: "runner_configuration_error" },
    );
  }
  if (!isAllowed(name, { patterns: settings.allowedImages, always: fallback === "" ? [] : [fallback] })) {
    throw notAllowed("image", name, settings.allowedImages, "allowed_images");
  }
  const warnings: string[] = [];
  /** Empty is how a service is switched off by a variable. */
  const isNamed = ({ name: service }: { readonly name: string }): boolean => {
    if (expand(service).trim() !== "") return true;
    warnings.push(`A service was left out, because its name ${JSON.stringify(service.slice(0, 100))} is empty here`);
    return false;
  };
  const own = settings.services.filter(isNamed).map((service) => ofEntry(settings, service, expand));
  const ownNames = own.map((service) => service.name);
  const asked = services.filter(isNamed).map((service): WantedService => {
    const serviceName = expand(service.name).trim();
    if (!isAllowed(serviceName, { patterns: settings.allowedServices, always: ownNames })) {
      throw notAllowed("service", serviceName, settings.allowedServices, "allowed_services");
    }
    return {
      name: serviceName,
      aliases: service.aliases.map((alias) => expand(alias).trim()).filter((alias) => alias !== ""),
      entrypoint: settings.disableEntrypointOverwrite ? null : service.entrypoint,
      command: service.command,
      variables: service.variables.map(({ key, value, raw }) => ({ key, value, raw })),
      policies: policiesOf(settings, service.pullPolicies, serviceName),
      platform: platformOf(service.platform, expand),
      user: userOf(settings, service.user, expand, null),
      privileged: servicePrivileged(settings, serviceName),
    };
  });
  const all = [...own, ...asked];
  if (settings.servicesLimit !== null && all.length > settings.servicesLimit) {
    throw new ScriptFailure(
      `The job has ${all.length} services, and services_limit in [runners.docker] allows ${settings.servicesLimit}`,
    );
  }
  return {
    image: {
      name,
      entrypoint: settings.disableEntrypointOverwrite ? null : (image?.entrypoint ?? null),
      policies: policiesOf(settings, image?.pullPolicies ?? [], name),
      platform: platformOf(image?.platform ?? null, expand),
      user: userOf(settings, image?.user ?? null, expand, settings.user ?? null),
      privileged:
        settings.privileged && (settings.privilegedImages.length === 0 || matchesAny(name, settings.privilegedImages)),
    },
    services: all,
    warnings,
  };
}

function ofEntry(settings: DockerSettings, service: ServiceSetting, expand: (text: string) => string): WantedService {
  const name = expand(service.name).trim();
  return {
    ...service,
    name,
    variables: service.variables.map((variable) => ({ ...variable, raw: false })),
    policies: settings.pullPolicies,
    platform: null,
    user: null,
    privileged: servicePrivileged(settings, name),
  };
}

function servicePrivileged(settings: DockerSettings, name: string): boolean {
  if (!(settings.servicesPrivileged ?? settings.privileged)) return false;
  return settings.privilegedServices.length === 0 || matchesAny(name, settings.privilegedServices);
}

/** What the job chose, if it may; else the entry's. */
function policiesOf(settings: DockerSettings, asked: readonly string[], name: string): readonly PullPolicy[] {
  if (asked.length === 0) return settings.pullPolicies;
  const allowed = settings.allowedPullPolicies.length === 0 ? settings.pullPolicies : settings.allowedPullPolicies;
  const chosen = allowed.length === 0 ? [] : asked.flatMap((each) => allowed.filter((policy) => policy === each));
  if (chosen.length > 0) return [...new Set(chosen)];
  const list = (policies: readonly string[]): string =>
    policies.map((each) => JSON.stringify(each.slice(0, 40))).join(", ");
  throw new ScriptFailure(
    `The job wants pull policy ${list(asked)} for the image "${name}", and the runner allows ${list(allowed)} (allowed_pull_policies in [runners.docker])`,
  );
}

function platformOf(platform: string | null, expand: (text: string) => string): string | null {
  const text = platform === null ? "" : expand(platform).trim();
  return text === "" ? null : text;
}

/** The entry's user is the operator's word and wins; a job's is taken where `allowed_users` lets it. */
function userOf(
  settings: DockerSettings,
  asked: string | null,
  expand: (text: string) => string,
  configured: string | null,
): string | null {
  const user = asked === null ? "" : expand(asked).trim();
  if (configured !== null) return configured;
  if (user === "") return null;
  if (settings.allowedUsers.length > 0 && !settings.allowedUsers.includes(user)) {
    throw new ScriptFailure(
      `The job wants to run as user ${JSON.stringify(user.slice(0, 100))}, and allowed_users in [runners.docker] has ${settings.allowedUsers.join(", ")}`,
    );
  }
  return user;
}

function notAllowed(what: string, name: string, patterns: readonly string[], key: string): ScriptFailure {
  return new ScriptFailure(
    `The ${what} ${JSON.stringify(name.slice(0, 300))} is not among those that this runner allows (${key} in [runners.docker]): ${patterns.join(", ")}`,
  );
}

/** Pull what is wanted, each image once, also for services that start at the same time. */
export function createImageSource(
  engine: Engine,
  logins: RegistryLogins,
  notes: Writable,
): (wanted: Pick<WantedImage, "name" | "policies" | "platform">, signal: AbortSignal) => Promise<ObtainedImage> {
  const obtained = new Map<string, Promise<ObtainedImage>>();
  return async ({ name, policies, platform }, signal) => {
    const key = JSON.stringify([name, platform, policies]);
    const image = obtained.get(key) ?? obtainImage(engine, { name, policies, platform, logins }, notes, signal);
    obtained.set(key, image);
    return await image;
  };
}
