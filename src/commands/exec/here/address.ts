import { createSocket } from "node:dgram";
import { lookup } from "node:dns/promises";
import { type NetworkInterfaceInfo, networkInterfaces } from "node:os";
import { execa } from "execa";
import { CommandError } from "../../../errors.ts";
import type { JobLocation } from "../../../executor/environment.ts";

/** Where jobs fetch their sources from this machine. */
export interface SourcesAddress {
  /** The address that the git server listens on. */
  readonly listenHost: string;
  /** The host name by which jobs reach it. */
  readonly publicHost: string;
}

export type Interfaces = Readonly<
  Record<string, readonly Pick<NetworkInterfaceInfo, "address" | "family" | "internal">[] | undefined>
>;

/** Addresses of this machine, with that of docker's bridge: while no container runs, the system leaves the bridge out. */
async function ownInterfaces(): Promise<Interfaces> {
  const found = networkInterfaces();
  if (process.platform !== "linux" || found.docker0 !== undefined) return found;
  const { stdout } = await execa("ip", ["-o", "-4", "addr", "show", "dev", "docker0"], {
    reject: false,
    stdin: "ignore",
    timeout: 2000,
  });
  const address = /\binet (\d+(?:\.\d+){3})\//.exec(stdout ?? "")?.[1];
  return address === undefined ? found : { ...found, docker0: [{ address, family: "IPv4", internal: false }] };
}

/**
 * The address of this machine that packets to `host` carry; no packet is sent.
 * @returns `undefined`: the name is not known, or there is no way there
 */
export async function addressTowards(host: string): Promise<string | undefined> {
  const found = await lookup(host).catch(() => undefined);
  if (found === undefined) return undefined;
  const socket = createSocket(found.family === 6 ? "udp6" : "udp4");
  try {
    return await new Promise<string>((resolve, reject) => {
      socket.once("error", reject);
      // Any port would do; this is the discard port.
      socket.connect(9, found.address, () => resolve(socket.address().address));
    });
  } catch {
    return undefined;
  } finally {
    socket.close();
  }
}

/**
 * An address of this machine that jobs reach. Jobs that see this machine have its loopback; containers have the gateway of
 * docker's bridge, or the name that Docker Desktop gives to the machine; another host has the address that leads there.
 * @param given `--address`: wins
 * @param towards `addressTowards` the other host
 * @throws {CommandError} there is none to be found
 */
export function sourcesAddress(
  {
    location,
    given,
    towards,
    platform,
  }: {
    location: JobLocation;
    given: string | undefined;
    towards: string | undefined;
    platform: NodeJS.Platform;
  },
  interfaces: Interfaces,
): SourcesAddress {
  const own = Object.values(interfaces).flatMap((list) => list ?? []);
  if (given !== undefined) {
    const isOwn = own.some(({ address }) => address === given);
    // A name, or an address that is translated on the way, is not this machine's own: then the server listens on all
    // addresses.
    return { listenHost: isOwn ? given : given.includes(":") ? "::" : "0.0.0.0", publicHost: given };
  }
  const loopback = "127.0.0.1";
  if (location.at === "this machine") return { listenHost: loopback, publicHost: loopback };
  if (location.at === "host") {
    if (towards !== undefined) return { listenHost: towards, publicHost: towards };
    throw new CommandError(
      `Jobs are to run on ${location.host}, and no way leads there: check the name, or name an address of this machine with --address`,
    );
  }
  const inContainers = location.at === "containers of this machine";
  if (inContainers && (platform === "darwin" || platform === "win32"))
    return { listenHost: loopback, publicHost: "host.docker.internal" };
  const candidates = inContainers ? [...(interfaces.docker0 ?? []), ...own] : own;
  const found = candidates.find(({ family, internal }) => family === "IPv4" && !internal)?.address;
  if (found !== undefined) return { listenHost: found, publicHost: found };
  throw new CommandError(
    "This machine has no address that jobs of this executor could fetch their sources from: name one with --address",
  );
}

/**
 * Looks around on this machine, and takes the address that fits.
 * @param given `--address`
 * @throws {CommandError} there is none to be found
 */
export async function findSourcesAddress(location: JobLocation, given: string | undefined): Promise<SourcesAddress> {
  const { platform } = process;
  const towards = given === undefined && location.at === "host" ? await addressTowards(location.host) : undefined;
  const looks = given !== undefined || !["this machine", "host"].includes(location.at);
  return sourcesAddress({ location, given, towards, platform }, looks ? await ownInterfaces() : {});
}
