import { z } from "zod";
import { jsonOf, misconfigured, type Question, refused } from "../cloud/ask.ts";
import { authorityOf, azureError, clientToken } from "../cloud/azure/tokens.ts";
import { addressOf, below, needed, optional, type Provider, read, tokenIn } from "./provider.ts";

/** `azure_key_vault`. Only `name`, `version` and `jwt` are expanded. */
const wantedSchema = z.object({
  name: needed,
  version: optional,
  server: z.object({ client_id: needed, tenant_id: needed, jwt: needed, url: needed }),
});

const API_VERSION = "2025-07-01";
const USUAL_RESOURCE = "https://vault.azure.net";
const answerSchema = z.object({ value: z.string().optional() });

export const azureKeyVault: Provider = async (wanted, context, signal) => {
  const { name, version, server } = read(wantedSchema, wanted);
  const { ask, expand, hide, once, environment } = context;
  const base = addressOf(server.url, context);
  const jwt = tokenIn(server.jwt, context);
  const url = below(base, "secrets", expand(name), expand(version));
  url.searchParams.set("api-version", API_VERSION);
  const question: Question = { what: "read a secret of Azure Key Vault", method: "GET", url };

  const token = await once(JSON.stringify(["azure", base.host, server, jwt]), async () => {
    // Key vaults say whose tokens they take: other clouds of Azure have names of their own.
    const { header } = await ask(question, signal);
    const resource = /resource="([^"]+)"/.exec(header("www-authenticate") ?? "")?.[1] ?? USUAL_RESOURCE;
    const host = URL.canParse(resource) ? new URL(resource).hostname : "";
    if (host === "" || !(base.hostname === host || base.hostname.endsWith(`.${host}`))) {
      throw misconfigured(`${base.host} asks for a token for another place than itself`);
    }
    const { accessToken } = await clientToken(
      ask,
      {
        authority: authorityOf(environment),
        tenant: server.tenant_id,
        clientId: server.client_id,
        scope: `https://${host}/.default`,
        proof: { assertion: jwt },
      },
      signal,
    );
    hide([accessToken]);
    return accessToken;
  });
  const reply = await ask({ ...question, headers: { authorization: `Bearer ${token}` } }, signal);
  if (reply.status !== 200) throw refused(question, reply.status, azureError(jsonOf(reply)));
  return answerSchema.safeParse(jsonOf(reply)).data?.value ?? null;
};
