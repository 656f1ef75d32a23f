import { z } from "zod";
import { jsonOf, misconfigured, type Question, refused } from "../cloud/ask.ts";
import { awsDomain } from "../cloud/aws/domain.ts";
import type { AwsKeys } from "../cloud/aws/login.ts";
import { signed } from "../cloud/aws/signed.ts";
import { assumeRoleByToken, saysBusy } from "../cloud/aws/sts.ts";
import { needed, optional, type Provider, read, type SecretContext } from "./provider.ts";

/** `aws_secrets_manager`. */
const wantedSchema = z.object({
  secret_id: needed,
  version_id: optional,
  version_stage: optional,
  field: optional,
  region: optional,
  role_arn: optional,
  role_session_name: optional,
  server: z.object({ region: optional, role_arn: optional, role_session_name: optional, jwt: optional }).prefault({}),
});

const answerSchema = z.object({ SecretString: z.string().optional(), SecretBinary: z.string().optional() });
const errorSchema = z.object({
  __type: z.string().default(""),
  message: z.string().optional(),
  Message: z.string().optional(),
});
const NOT_FOUND = /#?ResourceNotFoundException$/;

export const awsSecretsManager: Provider = async (wanted, context, signal) => {
  const spec = read(wantedSchema, wanted);
  const { ask, expand, environment } = context;
  const { server } = spec;
  const arn = expand(spec.role_arn) || expand(server.role_arn);
  const jwt = expand(server.jwt).trim();
  context.hide([jwt]);
  if (arn === "" && jwt !== "") throw misconfigured("the job gives a token for AWS, and no role_arn");
  const sessionName = expand(spec.role_session_name) || expand(server.role_session_name) || usualSession(context);
  const given = expand(spec.region) || expand(server.region);
  const { keys, region } = arn === "" ? await ownKeys(given, signal) : await lentKeys();

  async function lentKeys(): Promise<{ keys: AwsKeys; region: string }> {
    const at = demandRegion(given);
    const lent = await assumeRoleByToken(ask, { arn, jwt, sessionName, region: at }, environment, signal);
    context.hide([lent.secretAccessKey, lent.sessionToken]);
    return { keys: lent, region: at };
  }

  const [version, stage] = [expand(spec.version_id), expand(spec.version_stage)];
  const question: Question = {
    what: "read a secret of AWS Secrets Manager",
    method: "POST",
    url: endpoint(region, environment),
    headers: { "content-type": "application/x-amz-json-1.1", "x-amz-target": "secretsmanager.GetSecretValue" },
    body: JSON.stringify({
      SecretId: expand(spec.secret_id),
      ...(version === "" ? {} : { VersionId: version }),
      ...(stage === "" ? {} : { VersionStage: stage }),
    }),
  };
  const reply = await ask(await signed(question, { keys, service: "secretsmanager", region }), signal);
  if (reply.status !== 200) {
    const { __type: type, message, Message } = errorSchema.safeParse(jsonOf(reply)).data ?? { __type: "" };
    if (NOT_FOUND.test(type)) return null;
    const said = `${type.replace(/^.*#/, "")} ${message ?? Message ?? ""}`;
    throw refused(question, reply.status, said, saysBusy(reply.status, type));
  }
  const { SecretString, SecretBinary } = answerSchema.safeParse(jsonOf(reply)).data ?? {};
  const value = SecretString ?? SecretBinary ?? null;
  const field = expand(spec.field);
  return value === null || field === "" ? value : memberOf(value, field);
};

const table = z.record(z.string(), z.unknown());

function memberOf(value: string, field: string): string | null {
  const members = table.safeParse(jsonOf({ text: value })).data;
  if (members === undefined) throw misconfigured(`the secret is no JSON object, and the job wants a field of it`);
  const member = members[field];
  if (member === undefined) return null;
  if (member !== null && typeof member !== "object") return String(member);
  throw misconfigured(`the field ${JSON.stringify(field)} of the secret is neither text, number nor boolean`);
}

/** What the runner's own machine or service may see. */
async function ownKeys(region: string, signal: AbortSignal): Promise<{ keys: AwsKeys; region: string }> {
  const { openLogin } = await import("../cloud/aws/login.ts");
  const files = { profile: undefined, configFile: undefined, credentialsFile: undefined };
  const own = openLogin({ ...files, advice: "role_arn and an id token in the job" });
  return { keys: await own.keys(signal), region: demandRegion(region || (await own.region())) };
}

function demandRegion(region: string): string {
  if (/^[a-z0-9-]{1,40}$/.test(region)) return region;
  throw misconfigured(region === "" ? "the job does not say a region of AWS" : "its region is none of AWS");
}

function endpoint(region: string, environment: SecretContext["environment"]): URL {
  const given = environment.AWS_ENDPOINT_URL_SECRETS_MANAGER || environment.AWS_ENDPOINT_URL;
  return new URL(given || `https://secretsmanager.${region}.${awsDomain(region)}/`);
}

function usualSession({ get }: SecretContext): string {
  return [get("CI_JOB_ID"), get("CI_PROJECT_ID"), get("CI_SERVER_HOST")].join("-").slice(0, 64);
}
