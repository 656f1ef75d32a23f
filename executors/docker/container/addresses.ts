import { z } from "zod";
import type { Engine } from "../engine/engine.ts";

const networksSchema = z.object({
  NetworkSettings: z.object({
    IPAddress: z.string().nullish(),
    Networks: z
      .record(z.string(), z.object({ IPAddress: z.string().nullish(), GlobalIPv6Address: z.string().nullish() }))
      .nullish(),
  }),
});

/**
 * Addresses of a container on all its networks; none once it has ended.
 * @param name completes "Cannot look at …": `the build container`
 */
export async function addressesOf(engine: Engine, id: string, name: string, signal: AbortSignal): Promise<string[]> {
  const answer = await engine.call(
    `look at ${name}`,
    (docker, abortSignal) => docker.getContainer(id).inspect({ abortSignal }),
    signal,
  );
  const found = networksSchema.safeParse(answer);
  if (!found.success) return [];
  const { IPAddress, Networks } = found.data.NetworkSettings;
  const all = [...Object.values(Networks ?? {}).flatMap((one) => [one.IPAddress, one.GlobalIPv6Address]), IPAddress];
  return all.filter((address): address is string => typeof address === "string" && address !== "");
}
