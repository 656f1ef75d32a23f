import { ScriptFailure, SystemFailure } from "../../src/errors.ts";
import type { Image, Service } from "../../src/job/job.ts";
import { isAllowed, matchesAny } from "./allowed.ts";
import type { ImagePolicy, PullPolicy, ServiceSetting } from "./policy.ts";
import { isAllowedUser } from "./users.ts";

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
  readonly policy: ImagePolicy;
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
export function wantedImages({ policy, image, services, expand }: WantedRequest): Wanted {
  const given = image === null ? "" : expand(image.name).trim();
  const fallback = expand(policy.image ?? "").trim();
  const name = given || fallback;
  if (name === "") {
    throw new SystemFailure(
      `No image to run the job in: the job names none, and neither does image in [${policy.table}]`,
      { reason: "runner_configuration_error" },
    );
  }
  if (!isAllowed(name, { patterns: policy.allowedImages, always: fallback === "" ? [] : [fallback] })) {
    throw notAllowed("image", name, policy.allowedImages, `allowed_images in [${policy.table}]`);
  }
  const warnings: string[] = [];
  /** Empty is how a service is switched off by a variable. */
  const isNamed = ({ name: service }: { readonly name: string }): boolean => {
    if (expand(service).trim() !== "") return true;
    warnings.push(`A service was left out, because its name ${JSON.stringify(service.slice(0, 100))} is empty here`);
    return false;
  };
  const own = policy.services.filter(isNamed).map((service) => ofEntry(policy, service, expand));
  const ownNames = own.map((service) => service.name);
  const asked = services.filter(isNamed).map((service): WantedService => {
    const serviceName = expand(service.name).trim();
    if (!isAllowed(serviceName, { patterns: policy.allowedServices, always: ownNames })) {
      throw notAllowed("service", serviceName, policy.allowedServices, `allowed_services in [${policy.table}]`);
    }
    return {
      name: serviceName,
      aliases: service.aliases.map((alias) => expand(alias).trim()).filter((alias) => alias !== ""),
      entrypoint: policy.disableEntrypointOverwrite ? null : service.entrypoint,
      command: service.command,
      variables: service.variables.map(({ key, value, raw }) => ({ key, value, raw })),
      policies: policiesOf(policy, service.pullPolicies, serviceName),
      platform: platformOf(service.platform, expand),
      user: userOf(policy, service.user, expand, null),
      privileged: servicePrivileged(policy, serviceName),
    };
  });
  const all = [...own, ...asked];
  if (policy.servicesLimit !== null && all.length > policy.servicesLimit) {
    throw new ScriptFailure(
      `The job has ${all.length} services, and services_limit in [${policy.table}] allows ${policy.servicesLimit}`,
    );
  }
  return {
    image: {
      name,
      entrypoint: policy.disableEntrypointOverwrite ? null : (image?.entrypoint ?? null),
      policies: policiesOf(policy, image?.pullPolicies ?? [], name),
      platform: platformOf(image?.platform ?? null, expand),
      user: userOf(policy, image?.user ?? null, expand, policy.user ?? null),
      privileged:
        policy.privileged && (policy.privilegedImages.length === 0 || matchesAny(name, policy.privilegedImages)),
    },
    services: all,
    warnings,
  };
}

function ofEntry(policy: ImagePolicy, service: ServiceSetting, expand: (text: string) => string): WantedService {
  const name = expand(service.name).trim();
  return {
    ...service,
    name,
    variables: service.variables.map((variable) => ({ ...variable, raw: false })),
    policies: policy.pullPolicies,
    platform: null,
    user: null,
    privileged: servicePrivileged(policy, name),
  };
}

function servicePrivileged(policy: ImagePolicy, name: string): boolean {
  if (!(policy.servicesPrivileged ?? policy.privileged)) return false;
  return policy.privilegedServices.length === 0 || matchesAny(name, policy.privilegedServices);
}

/** What the job chose, if it may; else the entry's. */
function policiesOf(policy: ImagePolicy, asked: readonly string[], name: string): readonly PullPolicy[] {
  if (asked.length === 0) return policy.pullPolicies;
  const allowed = policy.allowedPullPolicies.length === 0 ? policy.pullPolicies : policy.allowedPullPolicies;
  const chosen = allowed.length === 0 ? [] : asked.flatMap((each) => allowed.filter((one) => one === each));
  if (chosen.length > 0) return [...new Set(chosen)];
  const list = (policies: readonly string[]): string =>
    policies.map((each) => JSON.stringify(each.slice(0, 40))).join(", ");
  throw new ScriptFailure(
    `The job wants pull policy ${list(asked)} for the image "${name}", and the runner allows ${list(allowed)} (allowed_pull_policies in [${policy.table}])`,
  );
}

function platformOf(platform: string | null, expand: (text: string) => string): string | null {
  const text = platform === null ? "" : expand(platform).trim();
  return text === "" ? null : text;
}

/** The entry's user is the operator's word and wins; a job's is taken where `allowed_users` lets it. */
function userOf(
  policy: ImagePolicy,
  asked: string | null,
  expand: (text: string) => string,
  configured: string | null,
): string | null {
  const user = asked === null ? "" : expand(asked).trim();
  if (configured !== null) return configured;
  if (user === "") return null;
  if (policy.allowedUsers.length > 0 && !isAllowedUser(user, policy.allowedUsers)) {
    throw new ScriptFailure(
      `The job wants to run as user ${JSON.stringify(user.slice(0, 100))}, and allowed_users in [${policy.table}] has ${policy.allowedUsers.join(", ")}`,
    );
  }
  return user;
}

/** @param key where the patterns stand */
function notAllowed(what: string, name: string, patterns: readonly string[], key: string): ScriptFailure {
  return new ScriptFailure(
    `The ${what} ${JSON.stringify(name.slice(0, 300))} is not among those that this runner allows (${key}): ${patterns.join(", ")}`,
  );
}
