import { z } from "zod";
import { jsonOf, misconfigured, type Question, refused } from "../cloud/ask.ts";
import { crc32c } from "../cloud/google/crc32c.ts";
import { CLOUD_SCOPE, exchangeToken, GOOGLE_STS, googleError } from "../cloud/google/federation.ts";
import { SystemFailure } from "../errors.ts";
import { below, needed, optional, type Provider, read, tokenIn } from "./provider.ts";

/** `gcp_secret_manager`. */
const wantedSchema = z.object({
  name: needed,
  version: optional,
  server: z.object({
    project_number: needed,
    workload_identity_federation_pool_id: needed,
    workload_identity_federation_provider_id: needed,
    jwt: needed,
  }),
});

const answerSchema = z.object({
  payload: z.object({ data: z.string(), dataCrc32c: z.union([z.string(), z.number()]).optional() }).optional(),
});

export const googleSecretManager: Provider = async (wanted, context, signal) => {
  const { ask, expand, hide, once } = context;
  const { name, version, server } = read(wantedSchema, wanted);
  const project = expand(server.project_number);
  const pool = expand(server.workload_identity_federation_pool_id);
  const provider = expand(server.workload_identity_federation_provider_id);
  const subjectToken = tokenIn(server.jwt, context);
  const audience = `//iam.googleapis.com/projects/${project}/locations/global/workloadIdentityPools/${pool}/providers/${provider}`;
  const token = await once(JSON.stringify(["google", audience, subjectToken]), async () => {
    const subjectTokenType = "urn:ietf:params:oauth:token-type:id_token";
    const exchange = { url: new URL(GOOGLE_STS), audience, subjectToken, subjectTokenType, scope: CLOUD_SCOPE };
    const { accessToken } = await exchangeToken(ask, exchange, signal);
    hide([accessToken]);
    return accessToken;
  });
  const secret = expand(name);
  const resource = /^projects\/[^/]+\/secrets\/[^/]+$/.test(secret) ? secret : `projects/${project}/secrets/${secret}`;
  const url = below(
    new URL("https://secretmanager.googleapis.com/v1"),
    resource,
    "versions",
    expand(version) || "latest",
  );
  url.pathname += ":access";
  const question: Question = {
    what: "read a secret of Google Secret Manager",
    method: "GET",
    url,
    headers: { authorization: `Bearer ${token}` },
  };
  const reply = await ask(question, signal);
  if (reply.status !== 200) throw refused(question, reply.status, googleError(jsonOf(reply)));
  const answer = answerSchema.safeParse(jsonOf(reply));
  if (!answer.success) throw misconfigured("the answer of Google Secret Manager makes no sense");
  const { payload } = answer.data;
  if (payload === undefined) return null;
  const bytes = Buffer.from(payload.data, "base64");
  if (payload.dataCrc32c !== undefined && String(crc32c(bytes)) !== String(payload.dataCrc32c)) {
    throw new SystemFailure("the secret was damaged on its way from Google Secret Manager", { retry: true });
  }
  return bytes.toString("utf8");
};
