import { CommandError } from "../errors.ts";
import { gitlabJsonSchema } from "../local/gitlab/plan/definitions/json-schema.ts";
import type { LocalContext } from "./context.ts";

/** `alloy-runner schema`: a JSON schema for editors. @throws {CommandError} there is none of that name */
export function schemaCommand(name: string, context: LocalContext): void {
  if (name !== "gitlab-ci") throw new CommandError(`There is no schema "${name}": gitlab-ci is the one there is`);
  context.print(JSON.stringify(gitlabJsonSchema(), null, 2));
}
