import { expect, test } from "vitest";
import { json, openClouds } from "../support/stores/clouds.ts";
import { resolve } from "./resolving.ts";

const server = {
  project_number: "123",
  workload_identity_federation_pool_id: "pool",
  workload_identity_federation_provider_id: "prov",
  jwt: "$GCP_ID_TOKEN",
};
const variables = { GCP_ID_TOKEN: "a-token-of-the-job" };
const from = "gcp_secret_manager";
/** With the checksum that Google's own library makes of it. */
const PAYLOAD = { data: Buffer.from("123456789").toString("base64"), dataCrc32c: "3808858755" };

const openGoogle = async (payload: object | undefined = PAYLOAD) =>
  await openClouds({
    "sts.googleapis.com": ({ body }) => {
      const { subjectToken } = JSON.parse(body.toString());
      if (subjectToken !== variables.GCP_ID_TOKEN)
        return json(400, { error: "invalid_grant", error_description: "The token is bad" });
      return json(200, { access_token: "ya29.token", token_type: "Bearer", expires_in: 3600 });
    },
    "secretmanager.googleapis.com": ({ path, headers }) => {
      if (headers.authorization !== "Bearer ya29.token") return json(401, { error: { message: "no login" } });
      if (!path.startsWith("/v1/projects/123/secrets/db-pass/versions/"))
        return json(404, { error: { message: "Secret not found" } });
      return json(200, { name: "x", payload });
    },
  });

test("a secret is read with a token that the job's own is exchanged for", async () => {
  const { connections, certsDir, received } = await openGoogle();
  const wanted = { name: "db-pass", version: "latest", server };
  const whole = { name: "projects/123/secrets/db-pass", version: 7, server };
  const { values, failure, hidden } = await resolve(
    [
      { from, wanted },
      { from, wanted: whole },
    ],
    { variables, means: { connections, certsDir } },
  );
  expect(failure?.message).toBeUndefined();
  expect(values).toEqual(["123456789", "123456789"]);
  expect(hidden).toContain("ya29.token");
  const [login, ...reads] = received;
  expect(login?.headers.authorization).toBeUndefined();
  expect(JSON.parse(login?.body.toString() ?? "")).toEqual({
    audience: "//iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/pool/providers/prov",
    grantType: "urn:ietf:params:oauth:grant-type:token-exchange",
    requestedTokenType: "urn:ietf:params:oauth:token-type:access_token",
    scope: "https://www.googleapis.com/auth/cloud-platform",
    subjectToken: "a-token-of-the-job",
    subjectTokenType: "urn:ietf:params:oauth:token-type:id_token",
  });
  expect(reads.map(({ path }) => path).sort()).toEqual([
    "/v1/projects/123/secrets/db-pass/versions/7:access",
    "/v1/projects/123/secrets/db-pass/versions/latest:access",
  ]);
});

test.each([
  ["a token that is refused", { given: { GCP_ID_TOKEN: "other" } }, /invalid_grant: The token is bad/],
  ["a secret that is not there", { name: "other" }, /status 404, Secret not found/],
  ["a secret that is damaged", { payload: { ...PAYLOAD, dataCrc32c: "1" } }, /damaged on its way/],
])("%s is told", async (_, { given = variables, name = "db-pass", payload = PAYLOAD }: Partial<Case>, message) => {
  const { connections, certsDir } = await openGoogle(payload);
  const means = { connections, certsDir };
  const { failure } = await resolve([{ from, wanted: { name, server } }], { variables: given, means });
  expect(failure?.message).toMatch(message);
  const ours = payload !== PAYLOAD;
  expect(failure?.reason).toBe(ours ? "runner_system_failure" : "runner_configuration_error");
});

interface Case {
  readonly given: Readonly<Record<string, string>>;
  readonly name: string;
  readonly payload: object;
}
