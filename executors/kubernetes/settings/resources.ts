import type { Quantity } from "./quantity.ts";

/** How much of something containers get: the keys of `[runners.kubernetes]` that say so. */

export const RESOURCES = ["cpu", "memory", "ephemeral_storage"] as const;
export const SIDES = ["request", "limit"] as const;
/** Whose resources: of the build container, of each service's, of the helper's, of the pod as a whole. */
const KINDS = ["", "service_", "helper_"] as const;
export type ResourceKind = (typeof KINDS)[number] | "pod_";
export type ResourceName = `${(typeof RESOURCES)[number]}_${(typeof SIDES)[number]}`;

const RESOURCE_NAMES: readonly ResourceName[] = RESOURCES.flatMap((name) =>
  SIDES.map((side): ResourceName => `${name}_${side}`),
);

export interface Resource {
  readonly kind: ResourceKind;
  readonly name: ResourceName;
  readonly key: string;
}

/** All keys that say how much of something containers get. */
export const resourceKeys: readonly Resource[] = [
  ...KINDS.flatMap((kind) => RESOURCE_NAMES.map((name) => ({ kind, name, key: `${kind}${name}` }))),
  ...RESOURCE_NAMES.filter((name) => !name.startsWith("ephemeral")).map((name) => ({
    kind: "pod_" as const,
    name,
    key: `pod_${name}`,
  })),
];

/** Key → amount, of the keys that are set. */
export function quantitiesOf(given: object, suffix: "" | "_overwrite_max_allowed"): ReadonlyMap<string, Quantity> {
  const values = new Map(Object.entries(given));
  return new Map(
    resourceKeys.flatMap(({ key }): [string, Quantity][] => {
      const value = values.get(`${key}${suffix}`);
      return isQuantity(value) ? [[key, value]] : [];
    }),
  );
}

function isQuantity(value: unknown): value is Quantity {
  return typeof value === "object" && value !== null && "nano" in value && typeof value.nano === "bigint";
}
