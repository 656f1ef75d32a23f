import { expect, test } from "vitest";
import { createConnections } from "../../src/coordinator/connection/connections.ts";
import { openVault, VAULT_JWT, vaultSecret } from "../support/stores/vault.ts";
import { resolve } from "./resolving.ts";

const variables = { VAULT_ID_TOKEN: VAULT_JWT };
const from = "vault";

test("every engine gives the field that is asked for, after one login for all", async () => {
  const vault = await openVault();
  const { url } = vault;
  const { values, hidden, failure } = await resolve(
    [
      { from, wanted: vaultSecret(url) },
      { from, wanted: vaultSecret(url, { engine: { name: "kv-v1", path: "old" } }) },
      { from, wanted: vaultSecret(url, { engine: { name: "generic", path: "/old/" } }) },
      { from, wanted: vaultSecret(url, { engine: { name: "kv-v2", path: "team//kv" }, path: "./x/../a b/" }) },
      { from, wanted: vaultSecret(url, { field: "port" }) },
      { from, wanted: vaultSecret(url, { field: "ratio" }) },
      { from, wanted: vaultSecret(url, { field: "more" }) },
    ],
    { variables },
  );
  expect(failure?.message).toBeUndefined();
  expect(values).toEqual([
    "kv2-pass-word",
    "kv1-pass-word",
    "kv1-pass-word",
    "path-pass-word",
    "5432",
    "1.50",
    '{"a":[1]}',
  ]);
  expect(hidden).toEqual(expect.arrayContaining(["kv2-pass-word", "path-pass-word", "hvs.a-token-of-vault"]));
  expect(vault.received.filter(({ path }) => path.endsWith("/login"))).toHaveLength(1);
});

test("the values of a round are hidden at once, and what is too much together is no longer asked for", async () => {
  const vault = await openVault();
  const secretOf = (_: unknown, number: number) => ({
    from,
    wanted: vaultSecret(vault.url, { path: `lines/${number}` }),
  });
  const few = await resolve(Array.from({ length: 8 }, secretOf), { variables });
  expect(few.values).toHaveLength(8);
  expect(few.hides).toHaveLength(1);
  const { failure, hides, said } = await resolve(Array.from({ length: 50 }, secretOf), { variables, attempts: 3 });
  expect(failure).toMatchObject({ reason: "runner_configuration_error", retry: false });
  expect(failure?.message).toMatch(
    /^The secrets of this job are too much .* with the secret SECRET_\d+ they have more than 20000 lines together/,
  );
  expect(hides).toHaveLength(1);
  expect(said.filter((line) => line.startsWith("Resolving")).length).toBeLessThan(20);
});

test("a namespace goes with login and read", async () => {
  const vault = await openVault({ namespace: "team" });
  const wanted = vaultSecret(vault.url);
  const server = Object.assign({}, wanted.server, { namespace: "$NAMESPACE" });
  const { values } = await resolve([{ from, wanted: { ...wanted, server } }], {
    variables: { ...variables, NAMESPACE: "team" },
  });
  expect(values).toEqual(["kv2-pass-word"]);
  expect(vault.received.map(({ headers }) => headers["x-vault-namespace"])).toEqual(["team", "team"]);
});

test.each([
  ["a token that is refused", {}, { VAULT_ID_TOKEN: "other" }, /log in to Vault .*status 400, error validating token/],
  ["a token that is empty", {}, {}, /\$VAULT_ID_TOKEN is empty.*id_tokens/],
  [
    "a path that may not be read",
    { path: "forbidden" },
    variables,
    /read a secret of Vault .*status 403, permission denied/,
  ],
  ["a secret that is not there", { path: "no-such" }, variables, /there is no such secret/],
  ["a version that is deleted", { path: "deleted" }, variables, /there is no such secret/],
  ["a field that is not there", { field: "user" }, variables, /there is no such secret/],
  [
    "an engine that is unknown",
    { engine: { name: "ssh", path: "x" } },
    variables,
    /engine "ssh" is not supported; kv-v2/,
  ],
  ["a part that is missing", { engine: undefined }, variables, /does not say engine/],
])("%s is the job's own fault", async (_, more, given, message) => {
  const vault = await openVault();
  const { failure } = await resolve([{ from, wanted: vaultSecret(vault.url, more) }], { variables: given });
  expect(failure?.message).toMatch(message);
  expect(failure?.reason).toBe("runner_configuration_error");
  expect(failure?.message).not.toContain(VAULT_JWT);
});

test("another way to log in, and a server in the clear, are refused before anything is sent", async () => {
  const wanted = vaultSecret("http://vault.example.com:8200");
  const { failure } = await resolve([{ from, wanted }], { variables });
  expect(failure?.message).toMatch(
    /vault.example.com:8200 would be asked over plain HTTP; use https, .*plain_http_secret_servers/,
  );
  const server = { url: "https://vault.example.com", auth: { name: "approle", path: "x", data: {} } };
  const other = await resolve([{ from, wanted: { ...wanted, server } }], { variables });
  expect(other.failure?.message).toContain('auth method "approle" is not supported');
  expect(other.failure?.retry).toBe(false);
});

test.each(["http://127.0.0.1:8200", "http://localhost:8200", "http://[::1]:8200"])(
  "%s is asked over plain HTTP only where it is named",
  async (url) => {
    const means = { plainHttpHosts: ["vault.internal"] };
    const { failure } = await resolve([{ from, wanted: vaultSecret(url) }], { variables, means });
    expect(failure?.message).toMatch(/would be asked over plain HTTP/);
  },
);

test.each([
  ["http://169.254.169.254", ["169.254.169.254"]],
  ["https://169.254.169.254", []],
  ["https://[fe80::1]", []],
  ["https://[::ffff:169.254.169.254]", []],
  ["https://vault.example.com", []],
])("%s, where clouds tell of the machine, is not asked", async (url, plainHttpHosts) => {
  const connections = createConnections({
    lookup: (_name, _options, found) => found(null, [{ address: "169.254.169.254", family: 4 }]),
  });
  const means = { connections, plainHttpHosts };
  const { failure } = await resolve([{ from, wanted: vaultSecret(url) }], { variables, means });
  expect(failure?.message).toMatch(/log in to Vault at .*: it is a link-local address/);
  expect(failure).toMatchObject({ reason: "runner_configuration_error", retry: false });
});

test.each([{ path: "../../../sys/health" }, { path: "a/../../b" }, { engine: { name: "kv-v2", path: "../sys" } }])(
  "%j leads above where secrets are, and nothing is sent",
  async (more) => {
    const vault = await openVault();
    const { failure } = await resolve([{ from, wanted: vaultSecret(vault.url, more) }], { variables });
    expect(failure?.message).toMatch(/the path ".*" leads above/);
    expect(vault.received).toEqual([]);
  },
);

test("a server that is away or busy is asked as often as the job says, and is not the job's fault", async () => {
  const vault = await openVault();
  const busy = { status: 503, body: '{"errors":["Vault is sealed"]}' };
  vault.fail(busy, { status: 429 });
  const { values, said } = await resolve([{ from, wanted: vaultSecret(vault.url) }], { variables, attempts: 3 });
  expect(values).toEqual(["kv2-pass-word"]);
  expect(said.join("\n")).toMatch(/Attempt 1 of 3 failed: .*status 503.*Attempt 2 of 3 failed: .*status 429/s);
  const away = await openVault();
  away.fail(...Array.from({ length: 30 }, () => busy));
  const { failure } = await resolve([{ from, wanted: vaultSecret(away.url) }], { variables, attempts: 2 });
  expect(failure).toMatchObject({ reason: "runner_external_dependency_failure", retry: true });
  expect(failure?.message).toMatch(/status 503, Vault is sealed/);
  expect(away.received).toHaveLength(2);
  const gone = await resolve([{ from, wanted: vaultSecret("http://127.0.0.1:1") }], { variables });
  expect(gone.failure).toMatchObject({ reason: "runner_external_dependency_failure" });
});

test.each([{ path: "forbidden" }, { path: "no-such" }])("%j is answered once and for all", async (more) => {
  const vault = await openVault();
  const wanted = vaultSecret(vault.url, more);
  const { failure } = await resolve([{ from, wanted }], { variables, attempts: 5 });
  expect(failure?.retry).toBe(false);
  expect(vault.received).toHaveLength(2);
});

test("what was found is not asked for again while another store is away", async () => {
  const vault = await openVault();
  const { failure, said } = await resolve(
    [
      { from, wanted: vaultSecret(vault.url) },
      { from, wanted: vaultSecret("http://127.0.0.1:1") },
    ],
    { variables, attempts: 3 },
  );
  expect(failure?.message).toMatch(/SECRET_1: .*127.0.0.1:1/);
  expect(said.join("\n")).toContain("Attempt 2 of 3 failed");
  expect(vault.received).toHaveLength(2);
});

test("an answer that makes no sense is an error without its text", async () => {
  const vault = await openVault();
  vault.fail({ status: 200, body: "<html>surprise-body</html>" });
  const { failure } = await resolve([{ from, wanted: vaultSecret(vault.url) }], { variables });
  expect(failure?.message).toContain("the answer has no token");
  expect(failure?.message).not.toContain("surprise-body");
});

test("what is missing is an empty variable where the flag has it so, and each failure is told", async () => {
  const vault = await openVault();
  const missing = { name: "GONE", from, wanted: vaultSecret(vault.url, { path: "no-such" }) };
  const good = { name: "GOOD", from, wanted: vaultSecret(vault.url) };
  const lenient = await resolve([missing, good], { variables, mustExist: false });
  expect(lenient.values).toEqual(["", "kv2-pass-word"]);
  const bad = { name: "BAD", from, wanted: vaultSecret(vault.url, { path: "forbidden" }) };
  const { failure } = await resolve([missing, good, bad], { variables });
  expect(failure?.message).toMatch(/GONE: there is no such secret/);
  expect(failure?.message).toMatch(/BAD: .*403/);
  expect(failure?.message).not.toContain("GOOD");
});

test("a store that nobody knows is a warning, and the variable is missing", async () => {
  const { values, said } = await resolve([{ name: "X", from: "some_store", wanted: {} }]);
  expect(values).toEqual([]);
  expect(said).toEqual(["The store of the secret X is none that this runner knows; the variable is missing."]);
});

test("the variables are masked, raw and nobody else's; a file unless it says otherwise", async () => {
  const vault = await openVault();
  const { variables: made } = await resolve([{ from, wanted: vaultSecret(vault.url), file: true }], { variables });
  expect(made).toEqual([
    { key: "SECRET_0", value: "kv2-pass-word", file: true, public: false, masked: true, raw: true },
  ]);
});
