import { expect, test } from "vitest";
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
