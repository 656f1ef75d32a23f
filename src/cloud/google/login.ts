import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { describeError } from "../../errors.ts";
import { never } from "../../time.ts";
import { type Ask, form, jsonOf, misconfigured, refused } from "../ask.ts";
import type { BearerToken } from "../bearer.ts";
import { keepUntil } from "../expiring.ts";
import { type CloudMeter, metered } from "../meter.ts";
import { askForToken, CLOUD_SCOPE, exchangeToken, googleError } from "./federation.ts";
import type { GoogleKey } from "./signed-url.ts";

/** How somebody is let in at Google: a key that signs addresses, or tokens that go with requests. */
export type GoogleLogin = { readonly key: GoogleKey } | { token(): Promise<BearerToken> };

export interface GoogleLoginOptions {
  readonly ask: Ask;
  /** The same for hosts of this machine's own network, which no proxy reaches. */
  readonly askNearby: Ask;
  readonly meter: CloudMeter;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** `undefined`: as Google's own tools find it. */
  readonly file: string | undefined;
}

const LOOK_MS = 1000;

const source = z.object({
  file: z.string().optional(),
  url: z.string().optional(),
  headers: z.record(z.string(), z.string()).optional(),
  format: z.object({ type: z.string().optional(), subject_token_field_name: z.string().optional() }).optional(),
});
const fileSchema = z.discriminatedUnion("type", [
  z.object({ type: z.literal("service_account"), client_email: z.string(), private_key: z.string() }),
  z.object({
    type: z.literal("authorized_user"),
    client_id: z.string(),
    client_secret: z.string(),
    refresh_token: z.string(),
  }),
  z.object({
    type: z.literal("external_account"),
    audience: z.string(),
    subject_token_type: z.string(),
    token_url: z.url(),
    service_account_impersonation_url: z.url().optional(),
    credential_source: source,
  }),
]);
type External = Extract<z.output<typeof fileSchema>, { type: "external_account" }>;

/** @throws {SystemFailure} nobody says how */
export async function openGoogleLogin(options: GoogleLoginOptions): Promise<GoogleLogin> {
  const { ask, environment, meter } = options;
  const kept = (newToken: () => Promise<BearerToken>) => ({
    token: keepUntil(() => metered(meter.login("google"), newToken())),
  });
  const given = options.file || environment.GOOGLE_APPLICATION_CREDENTIALS;
  const usual = join(
    environment.CLOUDSDK_CONFIG || join(environment.HOME || homedir(), ".config/gcloud"),
    "application_default_credentials.json",
  );
  const text = await readFile(given || usual, "utf8").catch((cause: unknown) => {
    if (given) throw misconfigured(`Google's credentials in ${given} cannot be read: ${describeError(cause)}`);
    return null;
  });
  if (text === null) return kept(() => machineToken(options));
  const name = given || usual;
  const parsed = fileSchema.safeParse(jsonOf({ text }));
  if (!parsed.success) {
    throw misconfigured(
      `Google's credentials in ${name} are none that this runner knows: service_account, authorized_user and external_account are`,
    );
  }
  const file = parsed.data;
  if (file.type === "service_account") return { key: { email: file.client_email, privateKey: file.private_key } };
  if (file.type === "external_account") return kept(() => federatedToken(file, options));
  const { client_id, client_secret, refresh_token } = file;
  const url = new URL("https://oauth2.googleapis.com/token");
  const fields = { grant_type: "refresh_token", client_id, client_secret, refresh_token };
  return kept(() => askForToken(ask, { what: "log in to Google", url, ...form(fields) }, never));
}

async function federatedToken(file: External, options: GoogleLoginOptions): Promise<BearerToken> {
  const { ask } = options;
  const exchange = {
    url: new URL(file.token_url),
    audience: file.audience,
    subjectToken: await subjectToken(file.credential_source, options),
    subjectTokenType: file.subject_token_type,
    scope: CLOUD_SCOPE,
  };
  const token = await exchangeToken(ask, exchange, never);
  if (file.service_account_impersonation_url === undefined) return token;
  const question = {
    what: "take the place of a service account of Google",
    method: "POST",
    url: new URL(file.service_account_impersonation_url),
    headers: { authorization: `Bearer ${token.accessToken}`, "content-type": "application/json" },
    body: JSON.stringify({ scope: [CLOUD_SCOPE] }),
  } as const;
  const reply = await ask(question, never);
  const answer = z.object({ accessToken: z.string(), expireTime: z.string() }).safeParse(jsonOf(reply));
  if (reply.status !== 200 || !answer.success) throw refused(question, reply.status, googleError(jsonOf(reply)));
  const { accessToken, expireTime } = answer.data;
  return { accessToken, lifeMs: Math.max(0, Date.parse(expireTime) - Date.now()) || token.lifeMs };
}

/** Read anew each time: whoever writes it renews it. */
async function subjectToken(from: External["credential_source"], { askNearby }: GoogleLoginOptions): Promise<string> {
  let text: string;
  if (from.file !== undefined) {
    text = await readFile(from.file, "utf8").catch((cause: unknown) => {
      throw misconfigured(`the token for Google in ${from.file} cannot be read: ${describeError(cause)}`);
    });
  } else if (from.url !== undefined && URL.canParse(from.url)) {
    const question = { what: "get a token for Google", method: "GET", url: new URL(from.url) } as const;
    const reply = await askNearby({ ...question, headers: from.headers ?? {} }, never);
    if (reply.status !== 200) throw refused(question, reply.status, "");
    text = reply.text;
  } else
    throw misconfigured(
      "Google's credentials name neither file nor url of a token; programs and AWS are not supported",
    );
  if (from.format?.type !== "json") return text.trim();
  const field = from.format.subject_token_field_name ?? "";
  const found = z.record(z.string(), z.unknown()).safeParse(jsonOf({ text })).data?.[field];
  if (typeof found === "string") return found;
  throw misconfigured(`the token for Google has no field ${JSON.stringify(field)}`);
}

/** What Google gives a machine, or a pod of its clusters. */
async function machineToken({ askNearby, environment }: GoogleLoginOptions): Promise<BearerToken> {
  const host = environment.GCE_METADATA_HOST || "metadata.google.internal";
  const url = new URL(`http://${host}/computeMetadata/v1/instance/service-accounts/default/token`);
  const headers = { "metadata-flavor": "Google" };
  const checked: Ask = async (question, signal) => {
    const reply = await askNearby({ ...question, timeoutMs: LOOK_MS }, signal);
    if (reply.header("metadata-flavor") === "Google") return reply;
    throw misconfigured(`${host} is no metadata server of Google`);
  };
  try {
    return await askForToken(checked, { what: "get a token of this machine", method: "GET", url, headers }, never);
  } catch (cause) {
    throw misconfigured(
      `There is no login for Google (${describeError(cause)}): set CredentialsFile, or AccessID and PrivateKey, in [runners.cache.gcs], or GOOGLE_APPLICATION_CREDENTIALS for the runner's service`,
    );
  }
}
