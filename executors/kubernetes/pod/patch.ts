import { parse } from "yaml";
import { z } from "zod";
import { describeError, SystemFailure } from "../../../src/errors.ts";

/** Changes of the operator's to the finished `spec` of a pod. */

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };
type Table = { readonly [key: string]: Json };

const json: z.ZodType<Json> = z.lazy(() =>
  z.union([z.null(), z.boolean(), z.number(), z.string(), z.array(json), z.record(z.string(), json)]),
);
const operations = z.array(
  z.object({
    op: z.enum(["add", "remove", "replace", "move", "copy", "test"]),
    path: z.string(),
    from: z.string().optional(),
    value: json.optional(),
  }),
);

/** Lists whose items have names: a strategic patch changes the item that it names. */
const MERGE_KEYS: Readonly<Record<string, string>> = {
  containers: "name",
  initContainers: "name",
  ephemeralContainers: "name",
  volumes: "name",
  env: "name",
  imagePullSecrets: "name",
  volumeMounts: "mountPath",
  volumeDevices: "devicePath",
  ports: "containerPort",
  hostAliases: "ip",
  topologySpreadConstraints: "topologyKey",
  resourceClaims: "name",
};

export interface Patch {
  /** For messages. */
  readonly name: string;
  /** YAML or JSON. */
  readonly text: string;
  readonly type: "strategic" | "merge" | "json";
}

/** Containers that a strategic patch brings, image and all; one without an image changes what is there. */
export function containersIn(patch: Patch): string[] {
  if (patch.type !== "strategic") return [];
  const parsed = bringsSchema.safeParse(dataOf(patch));
  return parsed.success ? parsed.data.containers.flatMap(({ name, image }) => (image ? [name] : [])) : [];
}

const bringsSchema = z.object({
  containers: z.array(z.object({ name: z.string(), image: z.string().optional() })),
});

function refusal({ name }: Patch, why: string, cause?: unknown): SystemFailure {
  return new SystemFailure(`The patch ${name} of pod_spec in [runners.kubernetes] cannot be used: ${why}`, {
    reason: "runner_configuration_error",
    cause,
  });
}

function dataOf(patch: Patch): unknown {
  try {
    return parse(patch.text);
  } catch (cause) {
    throw refusal(patch, `it is neither YAML nor JSON: ${describeError(cause)}`, cause);
  }
}

/** @throws {SystemFailure} the patch is none, or does not fit */
export function patched(spec: Json, patch: Patch): Json {
  const data = dataOf(patch);
  if (patch.type === "json") {
    const parsed = operations.safeParse(data);
    if (!parsed.success) throw refusal(patch, "it is no list of operations (op, path, value)");
    let result = spec;
    for (const operation of parsed.data) {
      const next = apply(result, operation);
      if (next === undefined) throw refusal(patch, `${operation.op} ${operation.path} does not fit`);
      result = next;
    }
    return result;
  }
  const parsed = json.safeParse(data);
  if (!parsed.success || !isTable(parsed.data)) throw refusal(patch, "it is no table of fields");
  return merged(spec, parsed.data, patch.type === "strategic");
}

function isTable(value: Json | undefined): value is Table {
  return typeof value === "object" && value !== null && !isList(value);
}

function isList(value: Json | undefined): value is readonly Json[] {
  return Array.isArray(value);
}

function merged(target: Json | undefined, patch: Json, strategic: boolean, key = ""): Json {
  const mergeKey = strategic ? MERGE_KEYS[key] : undefined;
  if (mergeKey !== undefined && isList(patch)) return mergedList(isList(target) ? target : [], patch, mergeKey);
  if (!isTable(patch)) return patch;
  const result: Record<string, Json> = isTable(target) && patch.$patch !== "replace" ? { ...target } : {};
  for (const [name, value] of Object.entries(patch)) {
    if (strategic && name === "$patch") continue;
    if (value === null) delete result[name];
    else result[name] = merged(result[name], value, strategic, name);
  }
  return result;
}

function mergedList(target: readonly Json[], patch: readonly Json[], mergeKey: string): Json[] {
  const result = [...target];
  for (const one of patch) {
    const at = isTable(one) ? result.findIndex((other) => isTable(other) && other[mergeKey] === one[mergeKey]) : -1;
    if (isTable(one) && one.$patch === "delete") {
      if (at >= 0) result.splice(at, 1);
    } else if (at >= 0) result[at] = merged(result[at], one, true);
    else result.push(merged(undefined, one, true));
  }
  return result;
}

interface Operation {
  readonly op: "add" | "remove" | "replace" | "move" | "copy" | "test";
  readonly path: string;
  readonly from?: string | undefined;
  readonly value?: Json | undefined;
}

/** RFC 6902. `undefined`: it does not fit. */
function apply(document: Json, { op, path, from, value }: Operation): Json | undefined {
  if (op === "remove") return change(document, pointer(path), "remove", null);
  if (op === "move" || op === "copy") {
    const source = from === undefined ? undefined : read(document, pointer(from));
    if (source === undefined || from === undefined) return undefined;
    const rest = op === "move" ? change(document, pointer(from), "remove", null) : document;
    return rest === undefined ? undefined : change(rest, pointer(path), "add", source);
  }
  if (value === undefined) return undefined;
  if (op === "test") {
    return JSON.stringify(read(document, pointer(path))) === JSON.stringify(value) ? document : undefined;
  }
  return change(document, pointer(path), op, value);
}

function pointer(path: string): string[] {
  return path === ""
    ? []
    : path
        .slice(1)
        .split("/")
        .map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
}

function read(document: Json | undefined, [name, ...rest]: readonly string[]): Json | undefined {
  if (name === undefined || document === undefined) return document;
  if (isList(document)) return read(document[Number(name)], rest);
  return isTable(document) ? read(document[name], rest) : undefined;
}

function change(
  document: Json,
  [name, ...rest]: readonly string[],
  how: "add" | "replace" | "remove",
  value: Json,
): Json | undefined {
  if (name === undefined) return how === "remove" ? undefined : value;
  if (isList(document)) {
    const at = name === "-" ? document.length : /^\d{1,6}$/.test(name) ? Number(name) : -1;
    const result = [...document];
    if (rest.length === 0) {
      if (at < 0 || at > result.length || (how !== "add" && at === result.length)) return undefined;
      result.splice(at, how === "add" ? 0 : 1, ...(how === "remove" ? [] : [value]));
      return result;
    }
    const inner = document[at];
    const next = inner === undefined ? undefined : change(inner, rest, how, value);
    if (next === undefined) return undefined;
    result[at] = next;
    return result;
  }
  if (!isTable(document)) return undefined;
  const result: Record<string, Json> = { ...document };
  if (rest.length === 0) {
    if (how !== "add" && !Object.hasOwn(document, name)) return undefined;
    if (how === "remove") delete result[name];
    else result[name] = value;
    return result;
  }
  const inner = document[name];
  const next = inner === undefined ? undefined : change(inner, rest, how, value);
  if (next === undefined) return undefined;
  result[name] = next;
  return result;
}
