import { generateKeyPairSync } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { crc32c, joinCrc32c } from "../../src/cloud/google/crc32c.ts";
import { signGoogleUrl } from "../../src/cloud/google/signed-url.ts";
import type { GcsBucket } from "../../src/config/config.ts";
import { describeError } from "../../src/errors.ts";
import { never } from "../../src/time.ts";
import { placeOf } from "../../src/transfer/cache/cache-keys.ts";
import { scratch, site } from "../coordinator/server.ts";
import { json, openClouds } from "../support/stores/clouds.ts";
import { castagnoli, googleStorage } from "../support/stores/google-storage.ts";
import { openStore } from "./bucket-store.ts";
import { getLarge, inPieces, place, putLarge } from "./large-caches.ts";
import { getText, putText } from "./small-caches.ts";

const { privateKey, publicKey } = generateKeyPairSync("rsa", {
  modulusLength: 2048,
  publicKeyEncoding: { type: "spki", format: "pem" },
  privateKeyEncoding: { type: "pkcs8", format: "pem" },
});
const bucket: GcsBucket = {
  kind: "gcs",
  name: "caches",
  prefix: "ci",
  shared: false,
  domain: "googleapis.com",
  credentials: { from: "key", email: "cache@p.iam.gserviceaccount.com", privateKey },
};
const login = (file?: string): GcsBucket => ({ ...bucket, credentials: { from: "login", file } });

/** Of nobody: made for this test. */
const OLD_KEY = `-----BEGIN PRIVATE KEY-----
MIICdwIBADANBgkqhkiG9w0BAQEFAASCAmEwggJdAgEAAoGBALzBIKWMi/++le/M
qh5RQAYCR7Rk2E/RDcTaZhtgvrXkwnteWxVeru3FE/pLQUPV6Wl0+ZZquK+SOwJE
g+NjiPi9VLcf6+KFk4uqkXq6tXAGWN3rxOsJChOSA9RejwIGNDetYebUa+kmmKF5
rIC6Jon4ZA5DIQyMGbca7Lx2g25XAgMBAAECgYAFkHvx5W7LH0c0RohNVH/arX6H
puFpmPQa9YVFEVkN66yADowI2T227LRmEIngAhJbdYNWF9dR9bGfo31v2qNTBOQN
6hXWNg84tkqOwM3b2hPb+ONqiNHzr5/HxyakiaAuRFxmCEDidHR3MlQ3/ZlSjXE8
byBVEyTqjBAVgMoR4QJBAOt8hIXs3eJszUuhwrkLF1ipSZ8FO3G4gkzTFv+YzHux
hMxq57EUf5xo6wJ6AbapAe7rb0DHNiWmhfB4XzMvK2sCQQDNMnWhcw2pUl48lPJk
sr1kDR8Q7/6IaeGf5QanyKsriqnL8NlrkVsNPpl5ZRIeWPCdX/3VukZNziGqXvS7
s0/FAkEAsG60o9raS6EVF4t050tGDKmZfUlgRk3lYkXtv0buPea9BqM6QFSJX9jD
6zEaQ47Q4f8HddNL4F2pkIe/XAwFTQJBAI2iardJ5wAcrpc6aCVBiqBoviy+uv4F
t4raVsGxLRUc3R673Bb3edWmg+Da9qqj0VGPVHIV5TkHMw2aBWsZ1dECQBwFwYqc
1NWHURQt1t30K9DWnFeSZxGDpGE0tTXF04bJEbB9Ult+wDAbNr0W3ziPKhEJhLXt
wftVnsV7qz4Fs40=
-----END PRIVATE KEY-----
`;
const SIGNED = {
  plain: "88944437186c20f564dc59cabadb6eb0",
  meta: "bb872ed27480bb284dfbf6817a21f82f",
  part: "5cf7892da41c8d1ffc1da9ba35aa21e6",
};

test("addresses are signed as Google's own library signs them", () => {
  // Made by @google-cloud/storage for the same key, time and object.
  const base = "https://storage.googleapis.com/caches/ci/a%20b/%2B%C3%BC%28%29%27%21%2A~.zip";
  const key = { email: "cache@p.iam.gserviceaccount.com", privateKey: OLD_KEY };
  const request = { url: new URL(base), lifeMs: 3_600_000, now: new Date("2027-01-02T03:04:05Z") };
  const signatureOf = (url: URL): string => url.searchParams.get("X-Goog-Signature")?.slice(0, 32) ?? "";
  const plain = signGoogleUrl(key, { ...request, method: "GET", query: {}, headers: {} });
  expect(signatureOf(plain)).toBe(SIGNED.plain);
  const headers = { "x-goog-meta-alloy-fingerprint": "f1" };
  expect(signatureOf(signGoogleUrl(key, { ...request, method: "PUT", query: {}, headers }))).toBe(SIGNED.meta);
  const query = { partNumber: "3", uploadId: "a/b+c=" };
  expect(signatureOf(signGoogleUrl(key, { ...request, method: "PUT", query, headers: {} }))).toBe(SIGNED.part);
});

test("with a key nothing but the bucket is asked; small and large archives come back", async () => {
  const storage = googleStorage({ publicKey });
  const { connections, certsDir, received } = await openClouds({ "storage.googleapis.com": storage.answer });
  const { store } = openStore(bucket, { connections, certsDir, ...inPieces });
  expect(await getText(store)).toBeNull();
  expect(await store.fingerprint(place, never)).toBeNull();
  await putText(store, "small");
  expect(await getText(store)).toBe("small");
  expect(await store.fingerprint(place, never)).toBe("f1");
  expect(await store.version(place, never)).toContain("caches");
  storage.fail(503);
  const hash = await putLarge(store);
  expect(await getLarge(store)).toBe(hash);
  expect(await store.fingerprint(place, never)).toBe("fingerprint");
  expect([...storage.objects.keys()]).toEqual(["/caches/ci/runner/7e3b05c2/project/5/gr%C3%B6%C3%9Fe%20%2B1"]);
  expect(storage.openUploads.size).toBe(0);
  expect(received.some(({ headers }) => headers.authorization !== undefined)).toBe(false);
  await putText(store, "");
  expect(await getText(store)).toBe("");
});

test("what comes with other bytes than were stored is no cache, small or in pieces", async () => {
  const storage = googleStorage({ publicKey });
  const { connections, certsDir, received } = await openClouds({ "storage.googleapis.com": storage.answer });
  const { store } = openStore(bucket, { connections, certsDir, ...inPieces });
  await putText(store, "small");
  expect(received.at(-1)?.headers["x-goog-meta-cachekey"]).toBe("gr%C3%B6%C3%9Fe%20+1");
  const hashed = placeOf({ ...place, hashed: true }, "main key");
  const write = async (path: string): Promise<string> => {
    writeFileSync(path, "x");
    return "f1";
  };
  await store.put(hashed, { extension: ".zip", write }, () => {}, never);
  expect(received.at(-1)?.headers["x-goog-meta-cachekey"]).toBe("main%20key");
  for (const { bytes } of storage.objects.values()) bytes[0] = (bytes[0] ?? 0) ^ 1;
  expect(await getText(store).catch(describeError)).toMatch(/came from the bucket with other bytes than were stored/);
  await putLarge(store);
  for (const { bytes } of storage.objects.values()) bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
  expect(await getLarge(store).catch(describeError)).toMatch(/other bytes than were stored/);
});

test.each([0, 1, 7, 8, 9, 1000])("the checksum of %i bytes is that of the definition, in one or in two", (length) => {
  const bytes = Buffer.from(Array.from({ length }, (_, index) => (index * 151 + 17) & 0xff));
  const half = Math.floor(length / 2);
  const expected = Buffer.from(castagnoli(bytes), "base64").readUInt32BE();
  expect(crc32c(bytes)).toBe(expected);
  expect(crc32c(bytes.subarray(half), crc32c(bytes.subarray(0, half)))).toBe(expected);
  expect(crc32c(Buffer.from("123456789"))).toBe(0xe3069283);
  for (const at of [0, 1, half, length]) {
    const [first, last] = [bytes.subarray(0, at), bytes.subarray(at)];
    expect(joinCrc32c(crc32c(first), crc32c(last), last.length)).toBe(expected);
  }
});

test("CredentialsFile is a key, too, and a wrong one is told without it", async () => {
  const storage = googleStorage({ publicKey });
  const { connections, certsDir } = await openClouds({ "storage.googleapis.com": storage.answer });
  const file = join(certsDir, "key.json");
  const account = { type: "service_account", client_email: "cache@p.iam.gserviceaccount.com", private_key: privateKey };
  writeFileSync(file, JSON.stringify(account));
  const { store } = openStore(login(file), { connections, certsDir });
  await putText(store, "by file");
  expect(await getText(store)).toBe("by file");
  writeFileSync(file, JSON.stringify({ ...account, private_key: "secret-but-no-key" }));
  const said = await getText(openStore(login(file), { connections, certsDir }).store).catch(describeError);
  expect(said).toMatch(/private key for the bucket caches cannot be used/);
  expect(said).not.toContain("secret-but-no-key");
  writeFileSync(file, '{"type":"gdch_service_account"}');
  expect(await getText(openStore(login(file), { connections, certsDir }).store).catch(describeError)).toMatch(
    /key.json are none that this runner knows: service_account, authorized_user and external_account/,
  );
});

test("a canceled job does not wait for a login, which others then have", async () => {
  const storage = googleStorage({ token: "machine-token" });
  const { connections, certsDir } = await openClouds({ "storage.googleapis.com": storage.answer });
  const [asked, answer] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const metadata = await site(
    async () => {
      asked.resolve();
      await answer.promise;
      const token = { access_token: "machine-token", expires_in: 3600, token_type: "Bearer" };
      return json(200, token, { "metadata-flavor": "Google" });
    },
    undefined,
    "127.0.0.1",
  );
  const environment = { GCE_METADATA_HOST: metadata.url.host, HOME: certsDir };
  const { store } = openStore(login(), { connections, certsDir, environment });
  const job = new AbortController();
  const canceled = store.version(place, job.signal).catch(describeError);
  await asked.promise;
  const other = getText(store);
  job.abort(new Error("canceled"));
  expect(await canceled).toBe("canceled");
  answer.resolve();
  expect(await other).toBeNull();
  expect(metadata.received).toHaveLength(1);
});

test("a machine's token is asked for once, and again before it ends", async () => {
  const storage = googleStorage({ token: "machine-token" });
  const { connections, certsDir } = await openClouds({ "storage.googleapis.com": storage.answer });
  let lifeSeconds = 3600;
  const metadata = await site(
    ({ headers }) =>
      headers["metadata-flavor"] === "Google"
        ? json(
            200,
            { access_token: "machine-token", expires_in: lifeSeconds, token_type: "Bearer" },
            { "metadata-flavor": "Google" },
          )
        : json(403, {}),
    undefined,
    "127.0.0.1",
  );
  const environment = { GCE_METADATA_HOST: metadata.url.host, HOME: certsDir };
  const { store } = openStore(login(), { connections, certsDir, environment, ...inPieces });
  const hash = await putLarge(store);
  expect(await getLarge(store)).toBe(hash);
  expect(metadata.received).toHaveLength(1);
  expect(metadata.received[0]?.path).toBe("/computeMetadata/v1/instance/service-accounts/default/token");
  lifeSeconds = 0;
  const impatient = openStore(login(), { connections, certsDir, environment }).store;
  await putText(impatient, "x");
  await putText(impatient, "x");
  expect(metadata.received).toHaveLength(3);
});

test("who is no metadata server gets no say, and what to set is told", async () => {
  const { connections, certsDir } = await openClouds({ "storage.googleapis.com": () => ({ status: 500 }) });
  const other = await site(() => json(200, { access_token: "x" }), undefined, "127.0.0.1");
  const environment = { GCE_METADATA_HOST: other.url.host, HOME: certsDir };
  const { store } = openStore(login(), { connections, certsDir, environment });
  expect(await getText(store).catch(describeError)).toMatch(
    /no login for Google .*no metadata server.*set CredentialsFile, or AccessID and PrivateKey, in \[runners.cache.gcs\]/,
  );
});

test("a federated identity is exchanged, and takes the place of a service account", async () => {
  const storage = googleStorage({ token: "account-token" });
  const { connections, certsDir } = await openClouds({
    "storage.googleapis.com": storage.answer,
    "sts.googleapis.com": ({ body }) =>
      JSON.parse(body.toString()).subjectToken === "pod-token"
        ? json(200, { access_token: "federated", expires_in: 3600 })
        : json(400, { error: "invalid_grant" }),
    "iamcredentials.googleapis.com": ({ headers }) =>
      headers.authorization === "Bearer federated"
        ? json(200, { accessToken: "account-token", expireTime: new Date(Date.now() + 3_600_000).toISOString() })
        : json(403, { error: { message: "no" } }),
  });
  const directory = scratch();
  writeFileSync(join(directory, "token.json"), '{"id_token":"pod-token"}');
  mkdirSync(join(directory, ".config/gcloud"), { recursive: true });
  writeFileSync(
    join(directory, ".config/gcloud/application_default_credentials.json"),
    JSON.stringify({
      type: "external_account",
      audience: "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/p",
      subject_token_type: "urn:ietf:params:oauth:token-type:jwt",
      token_url: "https://sts.googleapis.com/v1/token",
      service_account_impersonation_url:
        "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/cache@p.iam.gserviceaccount.com:generateAccessToken",
      credential_source: {
        file: join(directory, "token.json"),
        format: { type: "json", subject_token_field_name: "id_token" },
      },
    }),
  );
  const { store } = openStore(login(), { connections, certsDir, environment: { HOME: directory } });
  await putText(store, "federated");
  expect(await getText(store)).toBe("federated");
});

test("a refusal is told with the rights that are needed, and a bucket that is not there by its name", async () => {
  const storage = googleStorage({ token: "nobody-has-it" });
  const { connections, certsDir } = await openClouds({ "storage.googleapis.com": storage.answer });
  const said = await getText(openStore(bucket, { connections, certsDir }).store).catch(describeError);
  expect(said).toMatch(
    /bucket caches at storage.googleapis.com: status 403, AccessDenied, not you; .*storage.objects.get/,
  );
  const own = googleStorage({ publicKey });
  const clouds = await openClouds({ "storage.googleapis.com": own.answer });
  const other = openStore({ ...bucket, name: "other" }, clouds).store;
  expect(await getText(other).catch(describeError)).toMatch(/bucket other .*404, NoSuchBucket/);
});
