import { mkdtempSync } from "node:fs";
import { copyFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { AzureContainer } from "../../src/config/config.ts";
import { createConnections } from "../../src/coordinator/connection/connections.ts";
import { describeError } from "../../src/errors.ts";
import { never } from "../../src/time.ts";
import { site } from "../coordinator/server.ts";
import { startAzurite, type TestAzure } from "../support/azure/azurite.ts";
import { json, openClouds } from "../support/stores/clouds.ts";
import { openStore } from "./bucket-store.ts";
import { getLarge, inPieces, place, putLarge } from "./large-caches.ts";
import { getText, putText } from "./small-caches.ts";

let azure: TestAzure;
let certsDir: string;
let container: AzureContainer;
beforeAll(async () => {
  certsDir = mkdtempSync(join(tmpdir(), "alloy-azure-"));
  azure = await startAzurite(certsDir);
  const { endpoint, account, accountKey, token } = azure;
  container = { kind: "azure", name: "caches", prefix: "ci", shared: false, endpoint, account, accountKey };
  const connections = createConnections();
  const tls = { certsDir, tlsCaFile: undefined, tlsCertFile: undefined, tlsKeyFile: undefined };
  const made = await connections.route(endpoint, tls).send(
    {
      method: "PUT",
      path: `${endpoint.pathname}/caches?restype=container`,
      headers: ["authorization", `Bearer ${token}`, "x-ms-version", "2021-12-02"],
      body: { bytes: new Uint8Array() },
      idleMs: 10_000,
      totalMs: 10_000,
      answerBytes: 1000,
    },
    false,
    never,
  );
  await connections.close();
  expect(made).toMatchObject({ answer: { status: 201 } });
}, 180_000);
afterAll(async () => {
  await azure?.close();
  await rm(certsDir, { recursive: true, force: true });
});

test("with the account's key each blob has a signature of its own; small and large archives come back", async () => {
  const { store } = openStore(container, { certsDir, ...inPieces });
  expect(await getText(store)).toBeNull();
  expect(await store.fingerprint(place, never)).toBeNull();
  await putText(store, "small");
  expect(await getText(store)).toBe("small");
  expect(await store.fingerprint(place, never)).toBe("f1");
  const version = await store.version(place, never);
  const hash = await putLarge(store);
  expect(await getLarge(store)).toBe(hash);
  expect(await store.fingerprint(place, never)).toBe("fingerprint");
  expect(await store.version(place, never)).not.toBe(version);
  await putText(store, "");
  expect(await getText(store)).toBe("");
});

test("a wrong key and a container that is not there are told, without the signature", async () => {
  const wrong = openStore({ ...container, accountKey: Buffer.from("another").toString("base64") }, { certsDir }).store;
  const said = await getText(wrong).catch(describeError);
  expect(said).toMatch(/bucket caches at 127.0.0.1:\d+: status 403, AuthorizationFailure/);
  expect(said).not.toMatch(/sig=/);
  const elsewhere = openStore({ ...container, name: "other" }, { certsDir }).store;
  expect(await putText(elsewhere, "x").catch(describeError)).toMatch(/bucket other .*404, ContainerNotFound/);
});

const withoutKey = (): AzureContainer => ({ ...container, accountKey: undefined });

test("a machine's identity gives a token, which goes with each request", async () => {
  const app = await site(
    ({ path, headers }) =>
      headers["x-identity-header"] === "proof" && path.includes("resource=https%3A%2F%2Fstorage.azure.com%2F")
        ? json(200, { access_token: azure.token, expires_in: "3600" })
        : json(403, { error: "invalid_request" }),
    undefined,
    "127.0.0.1",
  );
  const environment = { IDENTITY_ENDPOINT: `${app.url.origin}/token`, IDENTITY_HEADER: "proof" };
  const { store } = openStore(withoutKey(), { certsDir, environment, ...inPieces });
  const hash = await putLarge(store);
  expect(await getLarge(store)).toBe(hash);
  expect(app.received).toHaveLength(1);
  const denied = openStore(withoutKey(), { certsDir, environment: { ...environment, IDENTITY_HEADER: "other" } }).store;
  expect(await getText(denied).catch(describeError)).toMatch(/no login for Azure .*invalid_request.*set AccountKey/);
});

test("a canceled job does not wait for a login, which others then have", async () => {
  const [asked, answer] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const app = await site(
    async () => {
      asked.resolve();
      await answer.promise;
      return json(200, { access_token: azure.token, expires_in: "3600" });
    },
    undefined,
    "127.0.0.1",
  );
  const environment = { IDENTITY_ENDPOINT: `${app.url.origin}/token`, IDENTITY_HEADER: "proof" };
  const { store } = openStore(withoutKey(), { certsDir, environment });
  const job = new AbortController();
  const canceled = store.version(place, job.signal).catch(describeError);
  await asked.promise;
  const other = store.version(place, never);
  job.abort(new Error("canceled"));
  expect(await canceled).toBe("canceled");
  answer.resolve();
  await expect(other).resolves.toBeDefined();
  expect(app.received).toHaveLength(1);
});

test.each([
  ["its secret", { AZURE_CLIENT_SECRET: "client-secret" }],
  ["the token of its pod", { AZURE_FEDERATED_TOKEN_FILE: "token" }],
])("a client gets in with %s", async (_, given: Readonly<Record<string, string>>) => {
  const clouds = await openClouds({
    "login.microsoftonline.com": ({ path, body }) => {
      const fields = new URLSearchParams(body.toString());
      const proven = fields.get("client_secret") === "client-secret" || fields.get("client_assertion") === "pod-token";
      const sound =
        path === "/tenant/oauth2/v2.0/token" && fields.get("scope") === "https://storage.azure.com/.default";
      return proven && sound ? json(200, { access_token: azure.token, expires_in: 3600 }) : json(401, { error: "no" });
    },
  });
  await writeFile(join(clouds.certsDir, "token"), "pod-token\n");
  await copyFile(join(certsDir, "127.0.0.1.crt"), join(clouds.certsDir, "127.0.0.1.crt"));
  const file =
    given.AZURE_FEDERATED_TOKEN_FILE === undefined
      ? {}
      : { AZURE_FEDERATED_TOKEN_FILE: join(clouds.certsDir, "token") };
  const environment = { AZURE_TENANT_ID: "tenant", AZURE_CLIENT_ID: "client", ...given, ...file };
  const connections = createConnections({ environment: { ...clouds.environment, NO_PROXY: "127.0.0.1" } });
  const { store } = openStore(withoutKey(), { connections, certsDir: clouds.certsDir, environment });
  await putText(store, "by client");
  expect(await getText(store)).toBe("by client");
});
