import { z } from "zod";
import { jobSchema } from "../schema/job.ts";
import { ruleSchema, variableSchema, workflowSchema } from "../schema/rules.ts";
import { defaultSchema, GLOBAL_KEYS } from "../schema/shared.ts";

/** A JSON schema of the file, for editors: what `exec` checks each part by. */
export function gitlabJsonSchema(): object {
  const { $schema: _, ...job } = z.toJSONSchema(jobSchema, { io: "input" });
  const part = (schema: z.ZodType): object => {
    const { $schema: _own, ...rest } = z.toJSONSchema(schema, { io: "input" });
    return rest;
  };
  const defaults = part(defaultSchema);
  const properties = "properties" in defaults ? defaults.properties : {};
  const globals = Object.entries(properties ?? {}).filter(([key]) => GLOBAL_KEYS.includes(key));
  const variables = {
    type: "object",
    additionalProperties: { anyOf: [{ type: ["string", "number", "boolean", "null"] }, part(variableSchema)] },
  };
  const rules = { type: "array", items: { anyOf: [part(ruleSchema), { type: "array" }] } };
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: ".gitlab-ci.yml, as alloy-runner exec reads it",
    type: "object",
    properties: {
      ...Object.fromEntries(globals),
      default: defaults,
      include: { anyOf: [{ type: "string" }, { type: "object" }, { type: "array" }] },
      stages: { type: "array" },
      spec: { type: "object" },
      variables,
      workflow: part(workflowSchema),
    },
    patternProperties: { "^\\.": {} },
    additionalProperties: { $ref: "#/$defs/job" },
    $defs: {
      job: {
        ...job,
        properties: { ...("properties" in job ? job.properties : {}), variables, rules },
        anyOf: ["script", "run", "trigger", "extends", "needs"].map((key) => ({ required: [key] })),
      },
    },
  };
}
