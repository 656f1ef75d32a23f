import { SystemFailure } from "../../../../src/errors.ts";
import { pause } from "../../../../src/time.ts";
import { type Engine, EngineFailure } from "../../engine/engine.ts";
import type { DockerSettings } from "../../settings/settings.ts";

/** How the containers of a job reach one another. */
export interface JobNetwork {
  /** What jobs may call it by, where it is the job's own. */
  readonly name?: string;
  /** Of the job alone: names are found by the engine's DNS. Otherwise it is the operator's, and names go to `/etc/hosts`. */
  readonly own: boolean;
  /** `HostConfig.NetworkMode` of services and of the build container. */
  readonly mode: string;
}

/** A name of the operator's choosing: `bridge`, `host`, `none`, `container:…` or a network; nothing is created. */
export function configuredNetwork(settings: DockerSettings): JobNetwork | null {
  return settings.networkMode === undefined ? null : { own: false, mode: settings.networkMode };
}

interface NetworkOptions {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly settings: Pick<DockerSettings, "networkMtu" | "enableIpv6">;
}

/**
 * A bridge with its own DNS and no way to others.
 * @returns its id
 * @throws {SystemFailure} the daemon refuses, as when its address pools are used up
 */
export async function createNetwork(
  engine: Engine,
  { name, labels, settings }: NetworkOptions,
  signal: AbortSignal,
): Promise<string> {
  const { networkMtu, enableIpv6 } = settings;
  try {
    const network = await overChanges(signal, () =>
      engine.call(
        "create the network of the job",
        (docker, abortSignal) =>
          docker.createNetwork({
            Name: name,
            Driver: "bridge",
            Labels: { ...labels },
            ...(enableIpv6 ? { EnableIPv6: true } : {}),
            ...(networkMtu === undefined ? {} : { Options: { "com.docker.network.driver.mtu": String(networkMtu) } }),
            abortSignal,
          }),
        signal,
      ),
    );
    return network.id;
  } catch (error) {
    if (!(error instanceof EngineFailure) || error.complaint !== "no_addresses") throw error;
    throw new SystemFailure(
      `${error.message}. The engine has no address range left for one more network: remove unused networks, add default-address-pools to its configuration, or lower "concurrent"`,
      { retry: true, cause: error },
    );
  }
}

const TRIES = 5;
const PAUSE_MS = 50;

/** Podman reads the list of interfaces first, and fails where one of another job's vanishes meanwhile. */
async function overChanges<T>(signal: AbortSignal, create: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await create();
    } catch (error) {
      const vanished = error instanceof EngineFailure && error.complaint === "interface_vanished";
      if (!vanished || attempt === TRIES) throw error;
      await pause(PAUSE_MS * attempt, signal);
    }
  }
}
