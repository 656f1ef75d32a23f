import type { Wire } from "../../../coordinator/http/wire.ts";
import { at, type Node } from "../../read/node.ts";
import type { PlannedTrigger, Retry } from "../plan.ts";
import type { JobData } from "../schema/job.ts";

/** Keywords that can be written in several ways, each in the one that is worked with. */

export function imageOf(image: JobData["image"]): Wire | null {
  if (image === undefined) return null;
  if (typeof image === "string") return { name: image };
  return container(image);
}

function container({
  docker,
  kubernetes,
  pull_policy: policy,
  ports: _,
  ...rest
}: Exclude<NonNullable<JobData["image"]>, string>): Wire {
  const options = { ...(docker === undefined ? {} : { docker }), ...(kubernetes === undefined ? {} : { kubernetes }) };
  return {
    ...rest,
    ...(policy === undefined ? {} : { pull_policy: Array.isArray(policy) ? policy : [policy] }),
    ...(Object.keys(options).length === 0 ? {} : { executor_opts: options }),
  };
}

export function serviceOf(service: NonNullable<JobData["services"]>[number]): Wire[] {
  if (typeof service === "string") return [{ name: service }];
  const { command, variables, ...rest } = service;
  return [
    {
      ...container(rest),
      ...(command === undefined ? {} : { command: Array.isArray(command) ? command.flat(10) : [command] }),
      ...(variables === undefined
        ? {}
        : {
            variables: Object.entries(variables).map(([key, value]) => ({
              key,
              value: value === null ? "" : String(value),
            })),
          }),
    },
  ];
}

export function triggerOf(
  trigger: JobData["trigger"],
  node: Node | undefined,
  expanded: (text: string) => string,
): PlannedTrigger | null {
  if (trigger === undefined) return null;
  const table = typeof trigger === "string" ? { project: trigger } : trigger;
  return {
    project: table.project === undefined ? null : expanded(table.project),
    include: at(node, "include"),
    strategy: ("strategy" in table ? table.strategy : undefined) ?? null,
    inputs: at(node, "inputs"),
    forwardYaml: ("forward" in table ? table.forward?.yaml_variables : undefined) ?? true,
    forwardPipeline: ("forward" in table ? table.forward?.pipeline_variables : undefined) ?? false,
  };
}

export function retryOf(retry: JobData["retry"]): Retry | null {
  if (retry === undefined) return null;
  if (typeof retry === "number") return retry === 0 ? null : { max: retry, when: ["always"], exitCodes: [] };
  const { max = 0, when, exit_codes: codes } = retry;
  if (max === 0) return null;
  const exitCodes = codes === undefined ? [] : Array.isArray(codes) ? codes : [codes];
  const words = when === undefined ? (exitCodes.length > 0 ? [] : ["always"]) : Array.isArray(when) ? when : [when];
  return { max, when: words, exitCodes };
}
