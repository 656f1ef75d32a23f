import { z } from "zod";
import { jsonOf, misconfigured, type Question, type Reply, refused } from "../cloud/ask.ts";
import { addressOf, below, memberText, needed, optional, type Provider, read, tokenIn } from "./provider.ts";

/** `vault` of a job's secrets: HashiCorp Vault, or OpenBao. */
const wantedSchema = z.object({
  server: z.object({
    url: needed,
    namespace: optional,
    auth: z.object({ name: needed, path: needed, data: z.record(z.string(), z.unknown()) }),
  }),
  engine: z.object({ name: needed, path: needed }),
  path: needed,
  field: needed,
});

const loginSchema = z.object({ auth: z.object({ client_token: z.string().min(1) }) });

export const vault: Provider = async (wanted, context, signal) => {
  const { server, engine, path, field } = read(wantedSchema, wanted);
  const { ask, expand, hide, once } = context;
  const base = addressOf(expand(server.url), context);
  const namespace = expand(server.namespace);
  const common = { "x-vault-request": "true", ...(namespace === "" ? {} : { "x-vault-namespace": namespace }) };
  const { name: method, path: mount, data } = server.auth;
  if (method !== "jwt") throw misconfigured(`the auth method ${JSON.stringify(method)} is not supported; "jwt" is`);
  const jwt = tokenIn(memberText(data.jwt) ?? "", context);
  const role = expand(memberText(data.role) ?? "");
  const url = urlOf(engine.name, base, expand(engine.path), expand(path));

  const token = await once(JSON.stringify(["vault", base.href, namespace, mount, jwt, role]), async () => {
    const question: Question = {
      what: "log in to Vault",
      method: "PUT",
      url: below(base, "v1/auth", expand(mount), "login"),
      headers: { ...common, "content-type": "application/json" },
      body: JSON.stringify({ jwt, ...(role === "" ? {} : { role }) }),
    };
    const reply = await ask(question, signal);
    if (reply.status !== 200) throw refused(question, reply.status, errorsIn(reply));
    const login = loginSchema.safeParse(jsonOf(reply));
    if (!login.success) throw refused(question, reply.status, "the answer has no token");
    hide([login.data.auth.client_token]);
    return login.data.auth.client_token;
  });
  const question: Question = {
    what: "read a secret of Vault",
    method: "GET",
    url,
    headers: { ...common, "x-vault-token": token },
  };
  return fieldIn(question, await ask(question, signal), engine.name, expand(field));
};

const engines: ReadonlyMap<string, string> = new Map([
  ["kv-v2", "data"],
  ["kv-v1", ""],
  ["generic", ""],
]);

/** Where an engine keeps what is at `path`. */
export function urlOf(engine: string, base: URL, mount: string, path: string): URL {
  const inner = engines.get(engine);
  if (inner !== undefined) return below(base, "v1", mount, inner, path);
  throw misconfigured(`the engine ${JSON.stringify(engine)} is not supported; ${[...engines.keys()].join(", ")} are`);
}

/** @returns `null`: there is no such secret, or no such field in it */
export function fieldIn(question: Question, reply: Reply, engine: string, field: string): string | null {
  // A mount of the other version says so in a warning, beside the 404 of a secret that is not there.
  const said = errorsIn(reply) || (reply.status === 404 ? textsIn(reply, "warnings") : "");
  if (reply.status === 404 && said === "") return null;
  if (reply.status !== 200) throw refused(question, reply.status, said);
  const outer = tableIn(jsonOf(reply), "data");
  const inner = engine === "kv-v2" ? tableIn(outer, "data") : outer;
  return memberText(tableIn({ inner }, "inner")?.[field]);
}

const table = z.record(z.string(), z.unknown());

function tableIn(value: unknown, key: string): Record<string, unknown> | undefined {
  return table.safeParse(table.safeParse(value).data?.[key]).data;
}

const textsSchema = z.array(z.string());

/** `{"errors":["permission denied"]}` */
export function errorsIn(reply: Reply): string {
  return textsIn(reply, "errors");
}

function textsIn(reply: Reply, key: string): string {
  return textsSchema.safeParse(table.safeParse(jsonOf(reply)).data?.[key]).data?.join("; ") ?? "";
}
