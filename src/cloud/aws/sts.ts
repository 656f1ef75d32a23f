import { z } from "zod";
import { answerKind, mayPass } from "../../coordinator/contract.ts";
import { type Ask, form, type Question, refused } from "../ask.ts";
import { awsDomain } from "./domain.ts";
import type { AwsKeys } from "./login.ts";
import { signed } from "./signed.ts";

/** Keys that are good for a while. */
export interface LentKeys extends AwsKeys {
  readonly sessionToken: string;
  /** Milliseconds since 1970. */
  readonly until: number;
}

export interface Role {
  readonly arn: string;
  readonly sessionName: string;
  readonly region: string;
  /** JSON that narrows what the role may. */
  readonly policy?: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** The role as who `jwt` says: nobody signs this one. */
export async function assumeRoleByToken(
  ask: Ask,
  role: Role & { readonly jwt: string },
  environment: Environment,
  signal: AbortSignal,
): Promise<LentKeys> {
  const fields = { ...fieldsOf("AssumeRoleWithWebIdentity", role), WebIdentityToken: role.jwt };
  return await lent(
    ask,
    { what: `assume the role ${role.arn}`, url: stsUrl(role.region, environment), ...form(fields) },
    signal,
  );
}

/** The role as who has `keys`. */
export async function assumeRole(
  ask: Ask,
  role: Role & { readonly keys: AwsKeys },
  environment: Environment,
  signal: AbortSignal,
): Promise<LentKeys> {
  const question = { what: `assume the role ${role.arn}`, url: stsUrl(role.region, environment) };
  const call = { ...question, ...form(fieldsOf("AssumeRole", role)) };
  return await lent(ask, await signed(call, { ...role, service: "sts" }), signal);
}

function fieldsOf(action: string, { arn, sessionName, policy }: Role): Record<string, string> {
  return {
    Action: action,
    Version: "2011-06-15",
    RoleArn: arn,
    RoleSessionName: sessionName.replace(/[^\w+=,.@-]/g, "-").slice(0, 64),
    DurationSeconds: "3600",
    ...(policy === undefined ? {} : { Policy: policy }),
  };
}

function stsUrl(region: string, environment: Environment): URL {
  const given = environment.AWS_ENDPOINT_URL_STS || environment.AWS_ENDPOINT_URL;
  return new URL(given || `https://sts.${region}.${awsDomain(region)}/`);
}

const credentials = z.object({
  AccessKeyId: z.string(),
  SecretAccessKey: z.string(),
  SessionToken: z.string(),
  Expiration: z.string().optional(),
});
const result = z.object({ Credentials: credentials });
const answerSchema = z.union([
  z
    .object({ AssumeRoleResponse: z.object({ AssumeRoleResult: result }) })
    .transform(({ AssumeRoleResponse }) => AssumeRoleResponse.AssumeRoleResult.Credentials),
  z
    .object({ AssumeRoleWithWebIdentityResponse: z.object({ AssumeRoleWithWebIdentityResult: result }) })
    .transform((answer) => answer.AssumeRoleWithWebIdentityResponse.AssumeRoleWithWebIdentityResult.Credentials),
]);
const errorSchema = z.object({
  ErrorResponse: z.object({ Error: z.object({ Code: z.string(), Message: z.string().default("") }) }),
});

/** AWS says 400 for most of what goes wrong, and by a word what it is. */
export function saysBusy(status: number, code: string): boolean {
  return /Throttl|TooManyRequests|RequestLimitExceeded/.test(code) || mayPass(answerKind(status));
}

async function lent(ask: Ask, question: Question, signal: AbortSignal): Promise<LentKeys> {
  const reply = await ask(question, signal);
  const { XMLParser } = await import("fast-xml-parser");
  let said: unknown;
  try {
    said = new XMLParser({ ignoreAttributes: true, parseTagValue: false }).parse(reply.text);
  } catch {
    said = undefined;
  }
  const answer = answerSchema.safeParse(said);
  if (reply.status === 200 && answer.success) {
    const { AccessKeyId, SecretAccessKey, SessionToken, Expiration = "" } = answer.data;
    const until = Date.parse(Expiration) || Date.now() + 3_600_000;
    return { accessKeyId: AccessKeyId, secretAccessKey: SecretAccessKey, sessionToken: SessionToken, until };
  }
  const error = errorSchema.safeParse(said).data?.ErrorResponse.Error;
  if (error === undefined) throw refused(question, reply.status, "");
  throw refused(question, reply.status, `${error.Code}: ${error.Message}`, saysBusy(reply.status, error.Code));
}
