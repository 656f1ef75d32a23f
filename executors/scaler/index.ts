export type { Provider, Seen } from "./provider.ts";
