import { parseSize } from "../../../src/config/units.ts";

/** Texts of the `[runners.docker]` table that have a form of their own. Each parser answers `null` where the text has none. */

const LARGEST_CPUS = 1_000_000;

/** `0.5`, `2`, `1/3` → billionths of a processor, rounded down; at least 1. */
export function parseCpus(text: string): number | null {
  const [, above, below] = /^\s*(\d{1,9}(?:\.\d{1,12})?)\s*(?:\/\s*(\d{1,9}(?:\.\d{1,12})?)\s*)?$/.exec(text) ?? [];
  if (above === undefined) return null;
  const cpus = Number(above) / (below === undefined ? 1 : Number(below));
  // Decimal fractions are a little less in binary: 0.29 × 10⁹ must not become 289999999.
  const nano = Math.floor(cpus * 1e9 + 1e-3);
  return Number.isFinite(cpus) && cpus <= LARGEST_CPUS && nano >= 1 ? nano : null;
}

/** `512m`, `2g`, `1073741824` → bytes. */
export function parseBytes(value: string | number): number | null {
  if (typeof value === "string") return parseSize(value);
  return Number.isSafeInteger(value) && value >= 0 ? value : null;
}

/** A device of the host in a container. */
export interface Device {
  readonly hostPath: string;
  readonly containerPath: string;
  /** Of `r`, `w`, `m`. */
  readonly permissions: string;
}

/** `/dev/kvm`, `/dev/a:/dev/b`, `/dev/a:/dev/b:r`, and `/dev/a:r`. */
export function parseDevice(text: string): Device | null {
  const [hostPath = "", second, third, ...more] = text.split(":");
  if (hostPath === "" || more.length > 0) return null;
  const onlyMode = third === undefined && second !== undefined && /^[rwm]+$/.test(second);
  const containerPath = onlyMode || second === undefined ? hostPath : second;
  const permissions = (onlyMode ? second : third) ?? "rwm";
  if (containerPath === "" || !/^[rwm]{1,3}$/.test(permissions)) return null;
  return { hostPath, containerPath, permissions };
}

/** What `docker run --gpus` asks the engine for. */
export interface GpuRequest {
  readonly driver: string;
  /** −1: all. 0 where devices are named. */
  readonly count: number;
  readonly deviceIds: readonly string[];
  readonly capabilities: readonly string[];
  readonly options: Readonly<Record<string, string>>;
}

/** The notation of `docker run --gpus`: `all`, `2`, `device=0,1`, `count=2,capabilities=compute,utility`, quoted lists. */
export function parseGpus(text: string): GpuRequest | null {
  const request = { driver: "", count: 0, deviceIds: [] as string[], capabilities: [] as string[] };
  const options: Record<string, string> = {};
  let list: string[] | null = null;
  let counted = false;
  for (const field of text.trim().replaceAll('"', "").split(",")) {
    const split = field.indexOf("=");
    const key = split < 0 ? "" : field.slice(0, split).trim().toLowerCase();
    const value = field.slice(split + 1).trim();
    if (value === "") return null;
    if (key === "" && list !== null) list.push(value);
    else if (key === "" || key === "count") {
      if (counted || !/^(?:all|-1|\d{1,4})$/.test(value)) return null;
      request.count = value === "all" ? -1 : Number(value);
      counted = true;
    } else if (key === "device") {
      request.deviceIds.push(value);
      list = request.deviceIds;
    } else if (key === "capabilities") {
      request.capabilities.push(value);
      list = request.capabilities;
    } else if (key === "driver") request.driver = value;
    else if (key === "options") {
      const equals = value.indexOf("=");
      if (equals < 1) return null;
      options[value.slice(0, equals)] = value.slice(equals + 1);
    } else return null;
  }
  if (counted && request.deviceIds.length > 0) return null;
  if (!counted && request.deviceIds.length === 0) request.count = 1;
  return {
    ...request,
    capabilities: request.capabilities.includes("gpu") ? request.capabilities : ["gpu", ...request.capabilities],
    options,
  };
}

/** One entry of `volumes`. */
export interface VolumeSetting {
  /** A directory of the host or the name of a volume; `null`: a path that is kept per project. */
  readonly source: string | null;
  /** As written: may hold `$NAME`, may be relative to the checkout. */
  readonly target: string;
  /** `ro`, `rw,z`, …; empty: the engine's default. */
  readonly mode: string;
}

/** A Windows drive keeps its colon: `C:\builds:D:\builds:ro`. */
const WINDOWS_VOLUME =
  /^(?:([a-zA-Z]:[\\/][^:]*|\\\\[.?]\\pipe\\[^:]+|[a-zA-Z0-9][\w.-]*):)?([a-zA-Z]:[\\/][^:]*|\\\\[.?]\\pipe\\[^:]+)(?::([\w,]+))?$/;

/** `/srv/cache:/cache:ro`, `name:/cache`, `/cache`; Windows paths with their drives. */
export function parseVolume(text: string): VolumeSetting | null {
  const [, windowsSource, windowsTarget, windowsMode] = WINDOWS_VOLUME.exec(text) ?? [];
  if (windowsTarget !== undefined) {
    return { source: windowsSource ?? null, target: windowsTarget, mode: windowsMode ?? "" };
  }
  const parts = text.split(":");
  const [first = "", second, mode = "", ...more] = parts;
  if (first === "" || more.length > 0) return null;
  if (second === undefined) return { source: null, target: first, mode: "" };
  return second === "" ? null : { source: first, target: second, mode };
}

/** A limit of `ulimit`, in the unit of its kind; −1: none. */
export interface Ulimit {
  readonly name: string;
  readonly soft: number;
  readonly hard: number;
}

/** `1024`, `1024:2048`, `-1`. */
export function parseUlimit(name: string, value: string | number): Ulimit | null {
  const [, soft, hard] = /^\s*(-1|\d{1,15})\s*(?::\s*(-1|\d{1,15})\s*)?$/.exec(String(value)) ?? [];
  if (soft === undefined) return null;
  const limit = { name, soft: Number(soft), hard: Number(hard ?? soft) };
  return limit.hard !== -1 && (limit.soft > limit.hard || limit.soft === -1) ? null : limit;
}
