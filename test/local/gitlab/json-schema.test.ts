import { expect, test } from "vitest";
import { parse } from "yaml";
import { z } from "zod";
import { gitlabJsonSchema } from "../../../src/local/gitlab/plan/definitions/json-schema.ts";
import { JOB_KEYS } from "../../../src/local/gitlab/plan/schema/job.ts";

test("the schema for editors knows every keyword of a job, and what they may be", () => {
  const schema = JSON.parse(JSON.stringify(gitlabJsonSchema()));
  expect(Object.keys(schema.$defs.job.properties).sort()).toEqual([...JOB_KEYS].sort());
  expect(schema.$defs.job.properties.when.enum).toContain("delayed");
  expect(schema.$defs.job.additionalProperties).toBe(false);
  expect(schema.properties.default.properties.image).toBeDefined();
  expect(schema.additionalProperties).toEqual({ $ref: "#/$defs/job" });
});

test("it takes what files are written like: inputs, headers, references, includes, nothing, templates of any kind", () => {
  const text = JSON.stringify(gitlabJsonSchema());
  // zod looks at the known names only; it is enough for what stands beside the jobs.
  const schema = z.fromJSONSchema(JSON.parse(text));
  expect(JSON.stringify(JSON.parse(text).$defs.job.properties.inputs)).toContain('"required":["default"]');
  const takes = (file: string): boolean => schema.safeParse(parse(file)).success;
  for (const file of [
    "spec: {inputs: {a: {type: array, default: [x]}, b: }, include: [{local: a.yml}]}",
    "include: [a.yml, {project: g/p, file: [a.yml, b.yml], ref: main, rules: [{if: $A}]}, {component: $CI_SERVER_FQDN/g/p/c@1}]",
    "j: {script: x, inputs: {a: {default: 1, options: [1, 2]}}, parallel: '$[[ inputs.n ]]', image: }",
    "j: {script: [a, [b, c]], rules: [.r, rules], tags: [.t, tags]}",
    ".any: [1, 2]\n.more: {rules: nothing, foo: 1}\nj: {trigger: {include: [{local: a.yml}], strategy: depend}}",
    "workflow: {name: x, rules: [{if: $A, variables: {B: c}}]}\nvariables: {A: {value: a, options: [a, b]}, B: 1}\nj: {extends: .x}",
  ])
    expect(takes(file), file).toBe(true);
  for (const file of [
    "spec: {inputs: {a: {typ: string}}}",
    "include: [{local: a.yml, remote: https://example.com/b.yml}]",
    "workflow: {when: always}",
  ])
    expect(takes(file), file).toBe(false);
});
