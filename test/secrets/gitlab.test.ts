import { expect, test } from "vitest";
import { type Reply, site } from "../coordinator/server.ts";
import { json } from "../support/stores/clouds.ts";
import { resolve } from "./resolving.ts";

const from = "gitlab_secrets_manager";
const wantedAt = (url: string, auth: object = { path: "ns/auth/jwt/login" }): object => ({
  server: { url, inline_auth: { jwt: "$NOT_EXPANDED", role: "project", ...auth } },
  engine: { name: "kv-v2", path: "secrets/kv" },
  path: "explicit/$DB",
  field: "value",
});

test("the login goes with the one request, and nothing is expanded", async () => {
  const store = await site(() => json(200, { data: { data: { value: "gitlab-pass-word" } } }), undefined, "127.0.0.1");
  const wanted = [
    { from, wanted: wantedAt(store.url.origin) },
    { from, wanted: wantedAt(store.url.origin, { auth_mount: "gitlab" }) },
  ];
  const { values, failure } = await resolve(wanted, { variables: { NOT_EXPANDED: "no", DB: "no" } });
  expect(failure?.message).toBeUndefined();
  expect(values).toEqual(["gitlab-pass-word", "gitlab-pass-word"]);
  const encoded = (key: string, value: string): string =>
    Buffer.from(JSON.stringify({ key, value })).toString("base64url");
  expect(store.received[0]).toMatchObject({
    method: "GET",
    path: "/v1/secrets/kv/data/explicit/%24DB",
    headers: {
      "x-vault-inline-auth-path": "ns/auth/jwt/login",
      "x-vault-inline-auth-parameter-jwt": encoded("jwt", "$NOT_EXPANDED"),
      "x-vault-inline-auth-parameter-role": encoded("role", "project"),
    },
  });
  expect(store.received[0]?.headers["x-vault-token"]).toBeUndefined();
  expect(store.received.map(({ headers }) => headers["x-vault-inline-auth-path"]).sort()).toEqual([
    "auth/gitlab/login",
    "ns/auth/jwt/login",
  ]);
});

const failed: Reply = json(403, { errors: ["bad token"] }, { "x-vault-inline-auth-failed": "true" });
test.each([
  ["a login that fails", failed, /log in to GitLab Secrets Manager .*bad token/],
  ["a field that is no text", json(200, { data: { data: { value: 5 } } }), /no field "value" that is text/],
  ["a field that is not there", json(200, { data: { data: {} } }), /no field "value" that is text/],
  ["a read that is refused", json(403, { errors: ["denied"] }), /read a secret of GitLab Secrets Manager .*denied/],
])("%s is told", async (_, reply, message) => {
  const store = await site(() => reply, undefined, "127.0.0.1");
  const { failure } = await resolve([{ from, wanted: wantedAt(store.url.origin) }], { mustExist: false });
  expect(failure?.message).toMatch(message);
  expect(failure?.reason).toBe("runner_configuration_error");
});
