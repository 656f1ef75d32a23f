import { z } from "zod";
import { type Ask, form, jsonOf, type Question, refused } from "../ask.ts";

export interface AzureToken {
  readonly accessToken: string;
  readonly lifeMs: number;
}

export interface ClientLogin {
  /** `https://login.microsoftonline.com` */
  readonly authority: URL;
  readonly tenant: string;
  readonly clientId: string;
  readonly scope: string;
  readonly proof: { readonly assertion: string } | { readonly secret: string };
}

const answerSchema = z.object({ access_token: z.string().min(1), expires_in: z.coerce.number().default(3600) });
const errorSchema = z.object({
  error: z.union([z.string(), z.object({ message: z.string() }).transform(({ message }) => message)]).optional(),
  error_description: z.string().optional(),
});

/** Other clouds of Azure have an authority of their own. */
export function authorityOf(environment: Readonly<Record<string, string | undefined>>): URL {
  const given = environment.AZURE_AUTHORITY_HOST ?? "";
  return new URL(URL.canParse(given) ? given : "https://login.microsoftonline.com");
}

/** A token for a client that shows its secret, or a token that somebody it trusts has given it. */
export async function clientToken(ask: Ask, login: ClientLogin, signal: AbortSignal): Promise<AzureToken> {
  const { authority, tenant, clientId, scope, proof } = login;
  const shown: Record<string, string> =
    "secret" in proof
      ? { client_secret: proof.secret }
      : {
          client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
          client_assertion: proof.assertion,
        };
  const url = new URL(authority.origin);
  url.pathname = `${authority.pathname.replace(/\/+$/, "")}/${encodeURIComponent(tenant)}/oauth2/v2.0/token`;
  const fields = { client_id: clientId, scope, grant_type: "client_credentials", ...shown };
  return await askForAzureToken(ask, { what: "log in to Azure", url, ...form(fields) }, signal);
}

export async function askForAzureToken(ask: Ask, question: Question, signal: AbortSignal): Promise<AzureToken> {
  const reply = await ask(question, signal);
  const answer = answerSchema.safeParse(jsonOf(reply));
  if (reply.status === 200 && answer.success) {
    return { accessToken: answer.data.access_token, lifeMs: answer.data.expires_in * 1000 };
  }
  throw refused(question, reply.status, reply.status === 200 ? "the answer has no token" : azureError(jsonOf(reply)));
}

export function azureError(answer: unknown): string {
  const { error = "", error_description: more = "" } = errorSchema.safeParse(answer).data ?? {};
  return [error, more].filter((part) => part !== "").join(": ");
}
