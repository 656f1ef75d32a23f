export { type Instances, openInstances } from "./instances.ts";
export type { Reached } from "./reach/reach.ts";
export { type AutoscalerTable, autoscalerTable, programsOf, tableOf } from "./settings/table.ts";
