import { z } from "zod";
import { anything, scalar, script, text } from "./words.ts";

/** What a job runs in, and beside. */

const pullPolicy = z.enum(["always", "if-not-present", "never"], "always, if-not-present or never");
const dockerOptions = z.strictObject(
  { platform: text.max(64, "at most 64 characters").optional(), user: z.union([text, z.number()]).optional() },
  "a table",
);
const container = {
  name: text.min(1, "the name of an image, not blank"),
  entrypoint: z.array(text, "a list of texts").optional(),
  docker: dockerOptions.optional(),
  kubernetes: anything.optional(),
  pull_policy: z
    .union([pullPolicy, z.array(pullPolicy)], "always, if-not-present or never, or a list of them")
    .optional(),
};
export const image = z.union(
  [text.min(1, "not blank"), z.strictObject({ ...container, ports: z.unknown().optional() })],
  "a text, or a table with a name",
);
const service = z.union(
  [
    text.min(1, "not blank"),
    z.strictObject({
      ...container,
      alias: text.optional(),
      command: script.optional(),
      variables: z.record(z.string(), scalar, "a table of names and values").optional(),
      ports: z.unknown().optional(),
    }),
  ],
  "a text, or a table with a name",
);
export const services = z.array(service, "a list of services");
