import { isIPv4 } from "node:net";
import { z } from "zod";

/** Machines as `prlctl list --all --full --json` has them. Identifiers come with or without braces. */
const listSchema = z.array(
  z.object({ uuid: z.string(), status: z.string(), name: z.string(), ip_configured: z.string().optional() }),
);

export interface Listed {
  readonly id: string;
  readonly name: string;
  readonly status: string;
  /** `null`: none is known. */
  readonly address: string | null;
}

const infoSchema = z.array(
  z.object({
    ID: z.string(),
    Name: z.string(),
    State: z.string(),
    OS: z.string().optional(),
    Hardware: z.record(z.string(), z.unknown()).optional(),
  }),
);

export interface MachineInfo {
  readonly id: string;
  readonly name: string;
  readonly state: string;
  readonly os: string;
  /** Hardware addresses of all adapters, 12 hex digits each, lower case. */
  readonly macs: readonly string[];
}

const snapshotSchema = z.record(z.string(), z.object({ name: z.string(), current: z.boolean().optional() }));

/** `null`: the text is no such list. */
export function parseList(text: string): Listed[] | null {
  // Some versions print nothing at all if there are no machines.
  const found = listSchema.safeParse(jsonOf(text.trim() === "" ? "[]" : text));
  if (!found.success) return null;
  return found.data.map(({ uuid, name, status, ip_configured: addresses = "" }) => ({
    id: bare(uuid),
    name,
    status: status.trim(),
    address: addressIn(addresses),
  }));
}

export function parseInfo(text: string): MachineInfo | null {
  const found = infoSchema.safeParse(jsonOf(text));
  const [first] = found.success ? found.data : [];
  if (first === undefined) return null;
  const { ID: id, Name: name, State: state, OS: os = "", Hardware: hardware = {} } = first;
  const adapter = z.object({ mac: z.string().regex(/^[0-9A-Fa-f]{12}$/) });
  const macs = Object.entries(hardware).flatMap(([device, settings]) => {
    const known = adapter.safeParse(settings);
    return /^net\d+$/.test(device) && known.success ? [known.data.mac.toLowerCase()] : [];
  });
  return { id: bare(id), name, state: state.trim(), os, macs };
}

/** The id of the current snapshot, if it is called `name`. */
export function currentSnapshot(text: string, name: string): string | null {
  const found = snapshotSchema.safeParse(jsonOf(text));
  if (!found.success) return null;
  return Object.entries(found.data).find(([, one]) => one.current === true && one.name === name)?.[0] ?? null;
}

/**
 * The address that was leased last to one of `macs`, by the file in which Parallels keeps what it has given out:
 * `10.211.55.181="1418921112,1800,001c42f593fb,ff42f593fb000100011c25b9ff001c42f593fb"`, address, expiry, seconds, adapter.
 */
export function leasedAddress(leases: string, macs: readonly string[]): string | null {
  let newest: { address: string; since: number } | null = null;
  for (const line of leases.split(/\r?\n/)) {
    const [, address = "", expiry, seconds, mac = ""] = /^([\d.]+)="(\d+),(\d+),([0-9a-fA-F]{12}),/.exec(line) ?? [];
    const since = Number(expiry) - Number(seconds);
    if (!macs.includes(mac.toLowerCase()) || !isUsable(address)) continue;
    if (newest === null || newest.since <= since) newest = { address, since };
  }
  return newest?.address ?? null;
}

/**
 * There may be several addresses, and `-` stands for none. An empty text must not pass: as a host name it would mean
 * this machine.
 */
function addressIn(text: string): string | null {
  return text.split(/[\s,]+/).find(isUsable) ?? null;
}

function isUsable(address: string): boolean {
  return isIPv4(address) && !/^(?:0|127|169\.254)\./.test(address);
}

function bare(id: string): string {
  return id.replace(/^\{|\}$/g, "").toLowerCase();
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
