export type { Instance } from "./decide/fleet.ts";
export { type Period, parsePeriod, timezoneComplaint } from "./decide/periods.ts";
export type { Demand, Policy } from "./decide/policy.ts";
export { createPool, type Lease, type Place, type Pool, type PoolSettings } from "./pool/pool.ts";
export type { Provider, Seen } from "./provider.ts";
