export { type EntryInstances, instancesOf } from "./of-entry.ts";
export type { Reached } from "./reach/reach.ts";
export { autoscalerTable, programsOf } from "./settings/table.ts";
