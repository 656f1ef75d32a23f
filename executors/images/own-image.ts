import { isAllowed } from "./allowed.ts";
import type { ImagePolicy } from "./policy.ts";

/**
 * The entry's own image, where its jobs may have that as a service with a command of their own: surely there, unlike any other. `undefined`:
 * the entry names none, or its rules do not let it be one.
 */
export function ownImageAsService(
  policy: Pick<ImagePolicy, "image" | "allowedServices" | "services" | "servicesLimit" | "disableEntrypointOverwrite">,
): string | undefined {
  const { image = "", allowedServices, services, servicesLimit, disableEntrypointOverwrite } = policy;
  const name = image.trim();
  if (name === "" || name.includes("$") || disableEntrypointOverwrite) return undefined;
  if (servicesLimit !== null && services.length >= servicesLimit) return undefined;
  const always = services.map((service) => service.name);
  return isAllowed(name, { patterns: allowedServices, always }) ? name : undefined;
}
