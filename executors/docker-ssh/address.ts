import { isIP } from "node:net";
import { networkInterfaces } from "node:os";
import { SystemFailure } from "../../src/errors.ts";
import type { ContainerView } from "../docker/own-command.ts";

/**
 * The address of a container, and of nothing else: an empty one would mean this machine to an SSH client.
 * @throws {SystemFailure} it has none, or one that is this machine's
 */
export async function containerAddress(
  container: Pick<ContainerView, "addresses">,
  signal: AbortSignal,
): Promise<string> {
  const addresses = await container.addresses(signal);
  const own = Object.values(networkInterfaces()).flatMap((list) => (list ?? []).map(({ address }) => address));
  const address = addresses.find((each) => isElsewhere(each, own));
  if (address !== undefined) return address;
  throw new SystemFailure(
    addresses.length === 0
      ? "The build container has no address on any network, so there is no way to its sshd"
      : `The build container's address ${addresses.join(", ")} is this machine's own: scripts would run here instead of in the container`,
    { retry: addresses.length === 0 },
  );
}

/** Whether `address` is one, and of another host than this, whose addresses are `own`. */
export function isElsewhere(address: string, own: readonly string[]): boolean {
  const kind = isIP(address);
  if (kind === 0 || own.includes(address)) return false;
  if (kind === 4) return !/^(?:0|127|169\.254|2[2-5]\d)\./.test(address);
  return !/^(?:::$|::1$|::ffff:|fe80:|ff)/i.test(address);
}
