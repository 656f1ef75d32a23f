import { z } from "zod";
import { INCLUDE_KINDS } from "../../compose/find-included.ts";
import { INPUT_TYPES } from "../../compose/inputs.ts";
import { jobSchema } from "../schema/job.ts";
import { ruleSchema, variableSchema, workflowRuleSchema, workflowSchema } from "../schema/rules.ts";
import { defaultSchema, GLOBAL_KEYS } from "../schema/shared.ts";

/** A JSON schema of the file, for editors: what `exec` checks each part by. */
export function gitlabJsonSchema(): object {
  const job = propertiesOf(jobSchema);
  const defaults = propertiesOf(defaultSchema);
  const workflow = propertiesOf(workflowSchema);
  const include = oneOrMore({ anyOf: [{ type: "string" }, includeEntry] });
  const properties = {
    ...job,
    variables: written(variables),
    rules: written(rulesOf(ruleSchema)),
    inputs: written(table({ ...input, required: ["default"] })),
    trigger: job.trigger,
  };
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: ".gitlab-ci.yml, as alloy-runner exec reads it",
    type: "object",
    properties: {
      ...Object.fromEntries(Object.entries(defaults).filter(([key]) => GLOBAL_KEYS.includes(key))),
      default: strict(defaults),
      include,
      stages: written({ type: "array", items: { anyOf: [{ type: "string" }, { $ref: "#/$defs/reference" }] } }),
      spec: strict({
        inputs: { anyOf: [table({ anyOf: [input, { type: "null" }] }), { type: "null" }] },
        include,
        component: { type: "array", items: { enum: ["name", "sha", "version", "reference"] } },
        description: { type: "string" },
      }),
      variables,
      workflow: strict({ ...workflow, rules: written(rulesOf(workflowRuleSchema)) }),
    },
    // A template may hold anything, and no editor is to complain of it; its keywords are those of jobs nearly always.
    patternProperties: { "^\\.": { properties: Object.fromEntries(Object.keys(properties).map((key) => [key, {}])) } },
    additionalProperties: { $ref: "#/$defs/job" },
    $defs: {
      block: { description: "$[[ inputs.NAME ]]", type: "string", pattern: "\\$(?:\\[\\[|\\{\\{)" },
      reference: {
        description: "!reference [JOB, KEYWORD]",
        type: "array",
        items: { type: "string" },
        minItems: 1,
      },
      job: {
        ...strict(properties),
        anyOf: ["script", "run", "trigger", "extends", "needs"].map((key) => ({ required: [key] })),
      },
    },
  };
}

type Schema = Readonly<Record<string, unknown>>;

function part(schema: z.ZodType): Schema {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io: "input" });
  return rest;
}

/** The keywords of a table, each of which may also be a reference, or nothing. */
function propertiesOf(schema: z.ZodType): Readonly<Record<string, Schema>> {
  const { properties } = z.toJSONSchema(schema, { io: "input" });
  return Object.fromEntries(
    Object.entries(properties ?? {}).map(([key, value]) => [key, written(typeof value === "object" ? value : {})]),
  );
}

/** A keyword in any of the forms in which it may be written; editors name the words of one that takes few. */
function written(schema: object): Schema {
  if ("enum" in schema) return { ...schema };
  return { anyOf: [schema, { $ref: "#/$defs/block" }, { $ref: "#/$defs/reference" }, { type: "null" }] };
}

function strict(properties: Readonly<Record<string, unknown>>): Schema {
  return { type: "object", properties, additionalProperties: false };
}

function table(values: object): Schema {
  return { type: "object", additionalProperties: values };
}

function oneOrMore(schema: object): Schema {
  return { anyOf: [schema, { type: "array", items: schema }] };
}

function rulesOf(rule: z.ZodType): Schema {
  return { type: "array", items: { anyOf: [part(rule), { type: "array" }] } };
}

const scalar = { type: ["string", "number", "boolean", "null"] };
const variables = table({ anyOf: [scalar, part(variableSchema)] });

const ofEachInclude = { inputs: { type: "object" }, rules: { type: "array", items: { type: "object" } } };
const ofInclude: Readonly<Record<string, object>> = {
  project: { file: oneOrMore({ type: "string" }), ref: { type: "string" } },
  remote: { integrity: { type: "string", pattern: "^sha256-" }, cache: { type: ["boolean", "string"] } },
  artifact: { job: { type: "string" } },
};
const includeEntry = {
  anyOf: INCLUDE_KINDS.map((kind) => ({
    ...strict({ [kind]: { type: "string" }, ...ofInclude[kind], ...ofEachInclude }),
    required: [kind],
  })),
};

/** An input that a file, or a job, declares. */
const input = {
  type: "object",
  properties: {
    type: { enum: INPUT_TYPES },
    default: {},
    options: { type: "array", maxItems: 50, items: { type: ["string", "number"] } },
    regex: { type: "string" },
    description: { type: "string" },
    rules: {
      type: "array",
      items: strict({ if: { type: "string" }, options: { type: "array" }, default: {} }),
    },
  },
  additionalProperties: false,
};
