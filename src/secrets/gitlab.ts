import { z } from "zod";
import { jsonOf, misconfigured, type Question, refused } from "../cloud/ask.ts";
import { addressOf, needed, optional, type Provider, read } from "./provider.ts";
import { errorsIn, fieldIn, urlOf } from "./vault.ts";

/** `gitlab_secrets_manager`: GitLab's own, an OpenBao that logs in with the request itself. Nothing of it is expanded. */
const wantedSchema = z.object({
  server: z.object({
    url: needed,
    inline_auth: z.object({ path: optional, auth_mount: optional, jwt: needed, role: needed }),
  }),
  engine: z.object({ name: needed, path: needed }),
  path: needed,
  field: needed,
});

export const gitlabSecretsManager: Provider = async (wanted, context, signal) => {
  const { server, engine, path, field } = read(wantedSchema, wanted);
  const { jwt, role, auth_mount: mount } = server.inline_auth;
  context.hide([jwt]);
  const loginPath = server.inline_auth.path || (mount === "" ? "" : `auth/${mount}/login`);
  if (loginPath === "") throw misconfigured("the job does not say server.inline_auth.path");
  const parameter = (key: string, value: string): string =>
    Buffer.from(JSON.stringify({ key, value })).toString("base64url");
  const question: Question = {
    what: "read a secret of GitLab Secrets Manager",
    method: "GET",
    url: urlOf(engine.name, addressOf(server.url, context), engine.path, path),
    headers: {
      "x-vault-request": "true",
      "x-vault-inline-auth-path": loginPath,
      "x-vault-inline-auth-parameter-jwt": parameter("jwt", jwt),
      "x-vault-inline-auth-parameter-role": parameter("role", role),
    },
  };
  const reply = await context.ask(question, signal);
  if (reply.header("x-vault-inline-auth-failed") !== undefined && reply.status !== 200) {
    throw refused({ ...question, what: "log in to GitLab Secrets Manager" }, reply.status, errorsIn(reply));
  }
  const value = fieldIn(question, reply, engine.name, field);
  if (value !== null && isText(jsonOf(reply), engine.name, field)) return value;
  throw misconfigured(`the secret has no field ${JSON.stringify(field)} that is text`);
};

const answerSchema = z.object({ data: z.record(z.string(), z.unknown()) });

/** Other than Vault's own, this store holds nothing but text. */
function isText(answer: unknown, engine: string, field: string): boolean {
  const outer = answerSchema.safeParse(answer).data?.data;
  const inner = engine === "kv-v2" ? answerSchema.safeParse({ data: outer?.data }).data?.data : outer;
  return typeof inner?.[field] === "string";
}
