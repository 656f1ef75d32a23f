import { ScriptFailure } from "../../../src/errors.ts";
import type { PrepareRequest } from "../../../src/executor/prepare.ts";
import type { Pattern } from "../../common/pattern.ts";
import { isLabelKey } from "./fields.ts";
import { parseQuantity, type Quantity } from "./quantity.ts";
import { type ResourceKind, resourceKeys } from "./resources.ts";
import { type KubernetesSettings, TABLE } from "./settings.ts";
import { type Toleration, tolerationOf } from "./tolerations.ts";

/** What a job has chosen for its pod, where the entry lets it, and else what the entry says. */
export interface Chosen {
  /** `undefined`: as the connection has it. */
  readonly namespace: string | undefined;
  readonly serviceAccount: string | undefined;
  readonly bearerToken: string | undefined;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly nodeSelector: Readonly<Record<string, string>>;
  readonly tolerations: readonly Toleration[];
  /** Key (`helper_cpu_limit`) → amount. */
  readonly resources: ReadonlyMap<string, Quantity>;
  /** One sentence for each thing that the job chose. */
  readonly said: readonly string[];
}

type Variables = readonly { readonly key: string; readonly value: string }[];

const PREFIX = "KUBERNETES_";

/** @throws {ScriptFailure} the job chooses what it may not */
export function choose(
  settings: KubernetesSettings,
  { variables, expand }: Pick<PrepareRequest, "variables" | "expand">,
): Chosen {
  const values = new Map(variables.map(({ key, value }) => [key, value]));
  const said: string[] = [];
  const text = (name: string, guard: Pattern | undefined, key: string): string | undefined => {
    const value = values.get(`${PREFIX}${name}`) ?? "";
    if (value === "" || guard === undefined) return undefined;
    allow(`${PREFIX}${name}`, value, guard, key);
    said.push(`${PREFIX}${name} of the job: ${value}`);
    return value;
  };
  const pairs = (name: string, guard: Pattern | undefined, key: string): [string, string, string][] => {
    if (guard === undefined) return [];
    return [...values].flatMap(([variable, value]): [string, string, string][] => {
      if (!variable.startsWith(`${PREFIX}${name}_`) || value === "" || variable.endsWith("_OVERWRITE_ALLOWED"))
        return [];
      allow(variable, value, guard, key);
      said.push(`${variable} of the job: ${value}`);
      return [[variable, value, key]];
    });
  };
  const table = (base: Readonly<Record<string, string>>, found: readonly [string, string, string][]) => {
    const own = found.map(([variable, value]) => {
      const split = value.indexOf("=");
      if (split < 1) throw new ScriptFailure(`${variable} is ${shown(value)}: it has to be written as key=value`);
      const key = value.slice(0, split);
      if (!isLabelKey(key))
        throw new ScriptFailure(`${variable} is ${shown(value)}: ${shown(key)} is no name of a label`);
      return [key, value.slice(split + 1)];
    });
    return { ...base, ...Object.fromEntries(own) };
  };
  // The job's own values were checked as they are: expanded once more, they could be anything.
  const expanded = (base: Readonly<Record<string, string>>): Readonly<Record<string, string>> =>
    Object.fromEntries(Object.entries(base).map(([key, value]) => [key, expand(value)]));
  const tolerations = pairs(
    "NODE_TOLERATIONS",
    settings.tolerationsOverwriteAllowed,
    "node_tolerations_overwrite_allowed",
  );
  return {
    namespace:
      text("NAMESPACE_OVERWRITE", settings.namespaceOverwriteAllowed, "namespace_overwrite_allowed") ??
      settings.namespace,
    serviceAccount:
      text("SERVICE_ACCOUNT_OVERWRITE", settings.serviceAccountOverwriteAllowed, "service_account_overwrite_allowed") ??
      settings.serviceAccount,
    bearerToken:
      settings.bearerTokenOverwriteAllowed && settings.connection.host !== undefined
        ? values.get(`${PREFIX}BEARER_TOKEN`) || undefined
        : undefined,
    labels: table(
      expanded(settings.podLabels),
      pairs("POD_LABELS", settings.podLabelsOverwriteAllowed, "pod_labels_overwrite_allowed"),
    ),
    annotations: table(
      expanded(settings.podAnnotations),
      pairs("POD_ANNOTATIONS", settings.podAnnotationsOverwriteAllowed, "pod_annotations_overwrite_allowed"),
    ),
    nodeSelector: table(
      settings.nodeSelector,
      pairs("NODE_SELECTOR", settings.nodeSelectorOverwriteAllowed, "node_selector_overwrite_allowed"),
    ),
    tolerations: [
      ...settings.tolerations,
      ...tolerations.map(([variable, value]) => {
        const colon = value.indexOf(":");
        const effect = colon < 0 ? "" : value.slice(colon + 1);
        const one = tolerationOf(colon < 0 ? value : value.slice(0, colon), effect);
        if (one === null)
          throw new ScriptFailure(`${variable} is ${shown(value)}: there is no effect ${shown(effect)}`);
        return one;
      }),
    ],
    resources: resourcesOf(settings, settings.resources, values, ["", "helper_", "service_", "pod_"], said),
    said,
  };
}

/** The choices for one service: its own variables come before those that all services get. */
export function chooseForService(
  settings: KubernetesSettings,
  chosen: Chosen,
  variables: Variables,
): Chosen["resources"] {
  const values = new Map(variables.map(({ key, value }) => [key, value]));
  return resourcesOf(settings, chosen.resources, values, ["service_"], []);
}

function resourcesOf(
  settings: KubernetesSettings,
  base: ReadonlyMap<string, Quantity>,
  values: ReadonlyMap<string, string>,
  kinds: readonly ResourceKind[],
  said: string[],
): ReadonlyMap<string, Quantity> {
  const found = new Map(base);
  const by = new Map<string, string>();
  for (const { kind, key } of resourceKeys) {
    if (!kinds.includes(kind)) continue;
    const variable = `${PREFIX}${key.toUpperCase()}`;
    const value = values.get(variable) ?? "";
    const most = settings.mostAllowed.get(key);
    if (value === "" || most === undefined) continue;
    const amount = value.length > 100 ? null : parseQuantity(value);
    if (amount === null) {
      throw new ScriptFailure(
        `${variable} is ${shown(value)}: it has to be a quantity above zero, such as "500m" or "1Gi"`,
      );
    }
    if (amount.nano > most.nano) {
      throw new ScriptFailure(
        `${variable} is ${shown(value)}, and ${key}_overwrite_max_allowed in [${TABLE}] allows no more than ${most.text}`,
      );
    }
    found.set(key, amount);
    by.set(key, variable);
    said.push(`${variable} of the job: ${amount.text}`);
  }
  for (const { key } of resourceKeys) {
    if (!key.endsWith("_request")) continue;
    const limitKey = key.replace(/_request$/, "_limit");
    const [request, limit] = [found.get(key), found.get(limitKey)];
    const variable = by.get(key) ?? by.get(limitKey);
    if (variable === undefined || request === undefined || limit === undefined || request.nano <= limit.nano) continue;
    throw new ScriptFailure(
      `${variable} makes ${key} (${request.text}) more than ${limitKey} (${limit.text}), which no cluster takes`,
    );
  }
  return found;
}

function allow(variable: string, value: string, guard: Pattern, key: string): void {
  if (guard.matches(value)) return;
  const part = guard.matchesPart(value) ? ", of which it fits only a part: the pattern has to cover all of it" : "";
  throw new ScriptFailure(
    `${variable} is ${shown(value)}, and ${key} in [${TABLE}] allows ${JSON.stringify(guard.text)}${part}`,
  );
}

function shown(value: string): string {
  return JSON.stringify(value.length > 100 ? `${value.slice(0, 100)}…` : value);
}
