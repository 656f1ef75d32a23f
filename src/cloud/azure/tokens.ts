import { z } from "zod";
import { type Ask, form, type Question } from "../ask.ts";
import { askForBearer, type BearerToken } from "../bearer.ts";

export interface ClientLogin {
  /** `https://login.microsoftonline.com` */
  readonly authority: URL;
  readonly tenant: string;
  readonly clientId: string;
  readonly scope: string;
  readonly proof: { readonly assertion: string } | { readonly secret: string };
}

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
export async function clientToken(ask: Ask, login: ClientLogin, signal: AbortSignal): Promise<BearerToken> {
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

export async function askForAzureToken(ask: Ask, question: Question, signal: AbortSignal): Promise<BearerToken> {
  return await askForBearer(ask, question, azureError, signal);
}

export function azureError(answer: unknown): string {
  const { error = "", error_description: more = "" } = errorSchema.safeParse(answer).data ?? {};
  return [error, more].filter((part) => part !== "").join(": ");
}
