import { expect, test } from "vitest";
import { json, openClouds } from "../support/stores/clouds.ts";
import { resolve } from "./resolving.ts";

const variables = { AZURE_JWT: "a-token-of-the-job" };
const server = { client_id: "client", tenant_id: "tenant", jwt: "$AZURE_JWT", url: "https://v.vault.azure.net/" };
const from = "azure_key_vault";

const openAzure = async (resource = "https://vault.azure.net") =>
  await openClouds({
    "login.microsoftonline.com": ({ path, body }) => {
      const fields = new URLSearchParams(body.toString());
      if (path !== "/tenant/oauth2/v2.0/token" || fields.get("client_assertion") !== variables.AZURE_JWT) {
        return json(401, {
          error: "invalid_client",
          error_description: "AADSTS700213: No matching federated identity",
        });
      }
      return json(200, { access_token: `token for ${fields.get("scope")}`, expires_in: "3599" });
    },
    "v.vault.azure.net": ({ path, headers }) => {
      if (headers.authorization === undefined) {
        const challenge = `Bearer authorization="https://login.microsoftonline.com/tenant", resource="${resource}"`;
        return json(401, {}, { "www-authenticate": challenge });
      }
      if (headers.authorization !== "Bearer token for https://vault.azure.net/.default") return json(403, {});
      if (path.startsWith("/secrets/empty")) return json(200, {});
      if (!path.startsWith("/secrets/db-pass"))
        return json(404, { error: { code: "SecretNotFound", message: "not there" } });
      return json(200, { value: `azure ${path}` });
    },
  });

test("a secret is read with a token for the place that the vault asks one for", async () => {
  const { connections, certsDir, received } = await openAzure();
  const means = { connections, certsDir };
  const { values, failure } = await resolve(
    [
      { from, wanted: { name: "db-pass", version: "", server } },
      { from, wanted: { name: "db-pass", version: "0a1b", server } },
    ],
    { variables, means },
  );
  expect(failure?.message).toBeUndefined();
  expect(values).toEqual([
    "azure /secrets/db-pass?api-version=2025-07-01",
    "azure /secrets/db-pass/0a1b?api-version=2025-07-01",
  ]);
  expect(received.filter(({ path }) => path.endsWith("/token"))).toHaveLength(1);
});

test.each([
  [
    "a vault that asks for another's token",
    "https://graph.microsoft.com",
    "db-pass",
    variables,
    /another place than itself/,
  ],
  ["a token that is refused", undefined, "db-pass", { AZURE_JWT: "other" }, /invalid_client: AADSTS700213/],
  ["a secret that is not there", undefined, "other", variables, /status 404, not there/],
  ["a secret without a value", undefined, "empty", variables, /there is no such secret/],
])("%s is the job's own fault", async (_, resource, name, given, message) => {
  const { connections, certsDir } = await openAzure(resource);
  const { failure } = await resolve([{ from, wanted: { name, server } }], {
    variables: given,
    means: { connections, certsDir },
  });
  expect(failure?.message).toMatch(message);
  expect(failure?.reason).toBe("runner_configuration_error");
});
