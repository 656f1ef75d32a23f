import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { motoMissing as pythonMissing } from "../support/aws/moto.ts";
import { startOpenBao, type TestOpenBao } from "../support/stores/openbao.ts";
import { vaultSecret } from "../support/stores/vault.ts";
import { resolve } from "./resolving.ts";

const missing = pythonMissing();
const from = "vault";

// The stand-in of the other tests misbehaves on demand; here the server decides what is right.
describe.skipIf(missing !== null)(`a real OpenBao${missing === null ? "" : `: ${missing}`}`, () => {
  const dir = mkdtempSync(join(tmpdir(), "openbao-"));
  let bao: TestOpenBao;
  beforeAll(async () => {
    bao = await startOpenBao(dir);
    const { call, addLogin } = bao;
    await call("POST", "sys/namespaces/team");
    for (const namespace of [undefined, "team"]) {
      await addLogin("jwt/ci", namespace);
      await call("POST", "sys/mounts/kv", { type: "kv", options: { version: "2" } }, namespace);
      const password = namespace === undefined ? "kv2-pass-word" : "team-pass-word";
      const data = { password, port: 5432, ratio: 1.5, on: true, more: { a: [1] } };
      await call("POST", "kv/data/production/db", { data }, namespace);
    }
    await call("POST", "kv/data/a%20b/%C3%BC+", { data: { password: "odd-pass-word" } });
    await call("POST", "kv/data/deleted", { data: { password: "x" } });
    await call("DELETE", "kv/data/deleted");
    await call("POST", "kv/data/forbidden", { data: { password: "x" } });
    await call("POST", "sys/mounts/old", { type: "kv", options: { version: "1" } });
    await call("POST", "old/production/db", { password: "kv1-pass-word" });
  }, 150_000);
  afterAll(async () => {
    await bao?.close();
    rmSync(dir, { recursive: true, force: true });
  });

  const variables = (claims?: Readonly<Record<string, unknown>>) => ({ VAULT_ID_TOKEN: bao.sign(claims) });

  test("gives what each engine has at a path to a job that logs in with its token", async () => {
    const of = (more: object) => ({ from, wanted: vaultSecret(bao.url, { ...more }) });
    const { values, failure } = await resolve(
      [
        of({}),
        of({ engine: { name: "kv-v1", path: "old" } }),
        of({ engine: { name: "generic", path: "/old/" } }),
        of({ path: "a b/ü+" }),
        of({ field: "port" }),
        of({ field: "ratio" }),
        of({ field: "on" }),
        of({ field: "more" }),
      ],
      { variables: variables() },
    );
    expect(failure?.message).toBeUndefined();
    const texts = ["kv2-pass-word", "kv1-pass-word", "kv1-pass-word", "odd-pass-word", "5432", "1.5", "true"];
    expect(values).toEqual([...texts, '{"a":[1]}']);
  });

  test("keeps namespaces apart", async () => {
    const wanted = vaultSecret(bao.url);
    const server = (namespace: string) => Object.assign({}, wanted.server, { namespace });
    const { values, failure } = await resolve(
      ["team", "team/"].map((namespace) => ({ from, wanted: { ...wanted, server: server(namespace) } })),
      { variables: variables() },
    );
    expect(failure?.message).toBeUndefined();
    expect(values).toEqual(["team-pass-word", "team-pass-word"]);
    const other = await resolve([{ from, wanted: { ...wanted, server: server("nobody") } }], {
      variables: variables(),
    });
    expect(other.failure).toMatchObject({ reason: "runner_configuration_error", retry: false });
  });

  test("takes a login that goes with the request, as GitLab's own store has it", async () => {
    const store = (namespace: string, role = "reader") => ({
      from: "gitlab_secrets_manager",
      wanted: {
        server: { url: bao.url, inline_auth: { path: `${namespace}auth/jwt/ci/login`, jwt: bao.sign(), role } },
        engine: { name: "kv-v2", path: `${namespace}kv` },
        path: "production/db",
        field: "password",
      },
    });
    const { values, failure } = await resolve([store(""), store("team/")]);
    expect(failure?.message).toBeUndefined();
    expect(values).toEqual(["kv2-pass-word", "team-pass-word"]);
    const { failure: refusal } = await resolve([store("", "writer")]);
    expect(refusal?.message).toMatch(
      /log in to GitLab Secrets Manager .*status 4\d\d, .*role "writer" could not be found/,
    );
    expect(refusal).toMatchObject({ reason: "runner_configuration_error", retry: false });
  });

  test.each([
    [
      "a role that is not there",
      { role: "writer" },
      {},
      /log in to Vault .*status 400, role "writer" could not be found/,
    ],
    ["a token for somebody else", {}, { aud: "other" }, /log in to Vault .*status 400, .*invalid audience/],
    ["a token that has expired", {}, { iat: 1, exp: 2 }, /log in to Vault .*status 400, .*expired/],
  ])("refuses %s, and the job is told why", async (_, data, claims, message) => {
    const wanted = vaultSecret(bao.url);
    const auth = { name: "jwt", path: "jwt/ci", data: { jwt: "$VAULT_ID_TOKEN", role: "reader", ...data } };
    const server = Object.assign({}, wanted.server, { auth });
    const { failure } = await resolve([{ from, wanted: { ...wanted, server } }], { variables: variables(claims) });
    expect(failure?.message).toMatch(message);
    expect(failure).toMatchObject({ reason: "runner_configuration_error", retry: false });
  });

  test.each([
    ["a path that may not be read", { path: "forbidden" }, /read a secret of Vault .*status 403, .*permission denied/],
    ["a secret that is not there", { path: "no-such" }, /there is no such secret/],
    ["a version that is deleted", { path: "deleted" }, /there is no such secret/],
    ["a field that is not there", { field: "user" }, /there is no such secret/],
    [
      "an engine of the other version",
      { engine: { name: "kv-v1", path: "kv" } },
      /status 404, Invalid path for a versioned K\/V/,
    ],
  ])("says of %s what it is", async (_, more, message) => {
    const { failure } = await resolve([{ from, wanted: vaultSecret(bao.url, more) }], { variables: variables() });
    expect(failure?.message).toMatch(message);
    expect(failure).toMatchObject({ reason: "runner_configuration_error", retry: false });
  });

  test("is not the job's fault while it is sealed", async () => {
    await bao.call("PUT", "sys/seal");
    const { failure } = await resolve([{ from, wanted: vaultSecret(bao.url) }], {
      variables: variables(),
      attempts: 2,
    });
    expect(failure?.message).toMatch(/status 503, .*sealed/);
    expect(failure).toMatchObject({ reason: "runner_external_dependency_failure", retry: true });
  });
});
