import { z } from "zod";
import type { Ask, Question } from "../ask.ts";
import { askForBearer, type BearerToken } from "../bearer.ts";

const errorSchema = z.object({ error: z.unknown(), error_description: z.string().optional() });

export const GOOGLE_STS = "https://sts.googleapis.com/v1/token";
export const CLOUD_SCOPE = "https://www.googleapis.com/auth/cloud-platform";

export interface Exchange {
  /** `https://sts.googleapis.com/v1/token` */
  readonly url: URL;
  /** `//iam.googleapis.com/projects/…/providers/…` */
  readonly audience: string;
  readonly subjectToken: string;
  readonly subjectTokenType: string;
  readonly scope: string;
}

/** Workload identity federation: a token of somebody else's for one of Google's. */
export async function exchangeToken(ask: Ask, exchange: Exchange, signal: AbortSignal): Promise<BearerToken> {
  const { url, audience, subjectToken, subjectTokenType, scope } = exchange;
  const body = JSON.stringify({
    audience,
    grantType: "urn:ietf:params:oauth:grant-type:token-exchange",
    requestedTokenType: "urn:ietf:params:oauth:token-type:access_token",
    scope,
    subjectToken,
    subjectTokenType,
  });
  const headers = { "content-type": "application/json" };
  return await askForToken(ask, { what: "log in to Google", method: "POST", url, headers, body }, signal);
}

export async function askForToken(ask: Ask, question: Question, signal: AbortSignal): Promise<BearerToken> {
  return await askForBearer(ask, question, googleError, signal);
}

const statusSchema = z.object({ message: z.string() });

/** What Google says went wrong, in any of its two ways. */
export function googleError(answer: unknown): string {
  const { error, error_description: more = "" } = errorSchema.safeParse(answer).data ?? {};
  const message = typeof error === "string" ? error : (statusSchema.safeParse(error).data?.message ?? "");
  return [message, more].filter((part) => part !== "").join(": ");
}
