import type { Environment } from "../../src/executor/environment.ts";
import type { PrepareRequest } from "../../src/executor/prepare.ts";
import { afterDestroy } from "../common/after-destroy.ts";
import type { Lease, Pool } from "./pool/contract.ts";

/**
 * A job in the slot that was reserved for it, or in one that is its own and goes with its environment, where nobody reserved one.
 * @param prepare what is made in the slot
 */
export async function onLease<C>(
  pool: Pool<C>,
  { reservation }: Pick<PrepareRequest, "reservation">,
  prepare: (lease: Lease<C>) => Promise<Environment>,
  signal: AbortSignal,
): Promise<Environment> {
  const reserved = pool.leaseOf(reservation);
  if (reserved !== undefined) return await prepare(reserved);
  const own = await pool.lease(signal);
  try {
    return afterDestroy(await prepare(own), async () => await own[Symbol.asyncDispose]());
  } catch (error) {
    await own[Symbol.asyncDispose]();
    throw error;
  }
}
