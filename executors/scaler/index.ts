export type { Seen } from "./decide/contract.ts";
export type { Instance } from "./decide/fleet.ts";
export { type Period, parsePeriod, timezoneComplaint } from "./decide/periods.ts";
export type { Demand, Policy } from "./decide/policy.ts";
export { onLease } from "./on-lease.ts";
export { onPlace } from "./on-place.ts";
export type { Lease, Place, Pool, PoolSettings } from "./pool/contract.ts";
export { createPool } from "./pool/pool.ts";
export type { Provider } from "./provider.ts";
