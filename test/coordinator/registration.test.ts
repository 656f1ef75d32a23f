import { expect, test } from "vitest";
import { answerKind } from "../../src/coordinator/contract.ts";
import { register, resetToken, unregister, verifyToken } from "../../src/coordinator/registration.ts";
import { never } from "../../src/time.ts";
import { info, noTls, type Reply, site, testDeps } from "./server.ts";

const wish = {
  token: "registration-secret",
  description: "build-07",
  tags: ["linux", " node "],
  runUntagged: false,
  locked: true,
};

async function coordinator(...replies: Reply[]) {
  const { url, received } = await site((_request, index) => replies[index] ?? { status: 500 });
  return { target: { url, ...noTls }, received };
}

test("a runner is registered once, with what AlloyCI needs", async () => {
  const { target, received } = await coordinator({ status: 201, body: '{"id":12345678901234567890,"token":"abc=="}' });
  expect(await register(target, wish, info, testDeps(), never)).toEqual({
    kind: "registered",
    id: "12345678901234567890",
    token: "abc==",
    expiresAtMs: null,
  });
  expect(received).toHaveLength(1);
  expect(received[0]).toMatchObject({ method: "POST", path: "/api/v4/runners" });
  expect(JSON.parse(String(received[0]?.body))).toEqual({
    token: "registration-secret",
    description: "build-07",
    tag_list: "linux,node",
    run_untagged: false,
    locked: true,
    info: {
      name: "alloy-runner",
      version: "2.0.0",
      revision: "1a2b3c4d",
      platform: "linux",
      architecture: "amd64",
      executor: "shell",
      shell: "bash",
      features: expect.objectContaining({ shared: true, cancel_gracefully: true }),
    },
  });
});

test("what else GitLab takes is sent when it is set", async () => {
  const { target, received } = await coordinator({
    status: 201,
    body: '{"id":1,"token":"t","token_expires_at":"2026-10-01T00:00:00Z"}',
  });
  const more = {
    ...wish,
    tags: [],
    paused: true,
    maintenanceNote: "note",
    accessLevel: "ref_protected",
    maximumTimeoutSeconds: 600,
  } as const;
  expect(await register(target, more, info, testDeps(), never)).toMatchObject({
    expiresAtMs: Date.parse("2026-10-01T00:00:00Z"),
  });
  const body = JSON.parse(String(received[0]?.body));
  expect(body).toMatchObject({
    paused: true,
    maintenance_note: "note",
    access_level: "ref_protected",
    maximum_timeout: 600,
  });
  expect(body).not.toHaveProperty("tag_list");
});

test.each([400, 403, 410, 422])("a registration refused with %d says why, without the token", async (status) => {
  const { target } = await coordinator({ status, body: '{"message":"registration-secret is wrong"}' });
  const answer = await register(target, wish, info, testDeps(), never);
  expect(answer).toMatchObject({ kind: "refused", why: answerKind(status) });
  expect("message" in answer && answer.message).toMatch(
    new RegExp(`Cannot register a runner at ${target.url.origin}: ${status} .*: \\[MASKED\\] is wrong`),
  );
});

test.each([
  [{ status: 500 }, 500, /500 Internal Server Error/],
  [{ status: 201, body: "<html>" }, 201, /not with the runner's token. Check the url$/],
  [{ status: 201, body: '{"id":1,"token":null}' }, 201, /not with the runner's token/],
])("a registration answered %j is trouble", async (reply, status, message) => {
  const { target, received } = await coordinator(reply);
  const answer = await register(target, wish, info, testDeps(), never);
  expect(answer).toMatchObject({ kind: "trouble", status });
  expect("message" in answer && answer.message).toMatch(message);
  expect(received).toHaveLength(1);
});

test("a registration that reaches nobody is trouble", async () => {
  const answer = await register({ url: new URL("http://127.0.0.1:1"), ...noTls }, wish, info, testDeps(), never);
  expect(answer).toMatchObject({ kind: "trouble", status: 0, message: expect.stringContaining("ECONNREFUSED") });
});

test.each([
  [{ status: 200 }, { kind: "valid", id: "", expiresAtMs: null }],
  [
    { status: 200, body: "200" },
    { kind: "valid", id: "", expiresAtMs: null },
  ],
  [
    { status: 200, body: '{"id":7,"token":"t","token_expires_at":null}' },
    { kind: "valid", id: "7", expiresAtMs: null },
  ],
  [{ status: 403 }, { kind: "unknown" }],
  [{ status: 422 }, { kind: "trouble", status: 422 }],
  [{ status: 401 }, { kind: "trouble", status: 401 }],
  [{ status: 500 }, { kind: "trouble", status: 500 }],
  [
    { status: 200, body: "<!DOCTYPE html>\n<html>" },
    { kind: "trouble", status: 200, message: expect.stringMatching(/with a web page.*Check the url$/) },
  ],
  [
    { status: 503, headers: { "retry-after": "5" } },
    { kind: "trouble", retryAfterMs: 5000 },
  ],
])("a token whose verification is answered %j is %j", async (reply, answer) => {
  const { target, received } = await coordinator(reply);
  expect(await verifyToken(target, "t", info, testDeps({ systemId: "s_1" }), never)).toMatchObject(answer);
  expect(received[0]).toMatchObject({ method: "POST", path: "/api/v4/runners/verify" });
  expect(JSON.parse(String(received[0]?.body))).toMatchObject({
    token: "t",
    system_id: "s_1",
    info: {
      name: "alloy-runner",
      executor: "shell",
      shell: "bash",
      features: { shared: true, cancel_gracefully: true },
    },
  });
});

test.each([
  [{ status: 204 }, "removed"],
  [{ status: 403 }, "unknown"],
  [{ status: 404 }, "trouble"],
  [{ status: 400 }, "trouble"],
  [{ status: 500 }, "trouble"],
])("a runner whose removal is answered %j is %s", async (reply, kind) => {
  const { target, received } = await coordinator(reply);
  expect(await unregister(target, "t", testDeps({ systemId: "s_1" }), never)).toMatchObject({ kind });
  expect(received[0]).toMatchObject({ method: "DELETE", path: "/api/v4/runners" });
  expect(JSON.parse(String(received[0]?.body))).toEqual({ token: "t" });
});

test("of a runner that was made in GitLab's pages only this machine is taken off", async () => {
  const { target, received } = await coordinator({ status: 204 }, { status: 404 });
  expect(await unregister(target, "glrt-x", testDeps({ systemId: "s_1" }), never)).toEqual({ kind: "removed" });
  expect(await unregister(target, "glrt-x", testDeps({ systemId: "s_1" }), never)).toMatchObject({ kind: "unknown" });
  expect(received[0]).toMatchObject({ method: "DELETE", path: "/api/v4/runners/managers" });
  expect(JSON.parse(String(received[0]?.body))).toEqual({ token: "glrt-x", system_id: "s_1" });
});

test("the token by whose right something is asked stands in a header, too, if one can have it", async () => {
  const { target, received } = await coordinator();
  const deps = testDeps({ systemId: "s_1" });
  await register(target, wish, info, deps, never);
  for (const token of ["glrt-x", "t"]) {
    await verifyToken(target, token, info, deps, never);
    await unregister(target, token, deps, never);
    await resetToken(target, { token }, deps, never);
  }
  await resetToken(target, { runnerId: "12", personalToken: "glpat-x" }, deps, never);
  for (const odd of ["a\r\nhost: b", "ключ"]) await verifyToken(target, odd, info, deps, never);
  expect(received.map(({ headers }) => headers["runner-token"])).toEqual([
    wish.token,
    ...Array(3).fill("glrt-x"),
    ...Array(3).fill("t"),
    ...Array(3).fill(undefined),
  ]);
});

test("a call ends with its signal's reason", async () => {
  const { target } = await coordinator({ status: 204 });
  const reason = new Error("enough");
  await expect(unregister(target, "t", testDeps(), AbortSignal.abort(reason))).rejects.toBe(reason);
  await expect(verifyToken({ ...target, url: new URL("ftp://x") }, "t", info, testDeps(), never)).rejects.toThrow(
    /http or https/,
  );
});

test.each([
  [201, '{"token":"glrt-new","token_expires_at":"2027-01-02T03:04:05.678Z"}', "exchanged"],
  [201, '{"token":"glrt-new","token_expires_at":null}', "exchanged"],
  [201, '{"token":"glrt-new","token_expires_at":"0001-01-01T00:00:00Z"}', "exchanged"],
  [201, "{}", "trouble"],
  [403, '{"message":"403 Forbidden - glrt-old"}', "refused"],
  [404, "", "refused"],
  [500, "", "trouble"],
])("a token is exchanged once: %d %s", async (status, body, kind) => {
  const { target, received } = await coordinator({ status, body });
  const counted: unknown[] = [];
  const deps = testDeps({ onRequest: (made) => void counted.push([made.endpoint, made.method, made.status]) });
  const answer = await resetToken(target, { token: "glrt-old" }, deps, never);
  expect(answer).toMatchObject({ kind });
  expect("message" in answer ? answer.message : "").not.toContain("glrt-old");
  if (answer.kind === "exchanged")
    expect(answer).toEqual({
      kind,
      token: "glrt-new",
      expiresAtMs: body.includes("2027") ? Date.parse("2027-01-02T03:04:05.678Z") : null,
    });
  expect(received.map(({ path, body: sent }) => [path, JSON.parse(String(sent))])).toEqual([
    ["/api/v4/runners/reset_authentication_token", { token: "glrt-old" }],
  ]);
  expect(counted).toEqual([["reset_token", "POST", status]]);
});

test("a token is exchanged by a person's right, which says whose it is", async () => {
  const { target, received } = await coordinator({ status: 201, body: '{"token":"glrt-new"}' });
  const right = { runnerId: "12", personalToken: "glpat-secret" };
  expect(await resetToken(target, right, testDeps(), never)).toEqual({
    kind: "exchanged",
    token: "glrt-new",
    expiresAtMs: null,
  });
  expect(received[0]).toMatchObject({
    path: "/api/v4/runners/12/reset_authentication_token",
    headers: { "private-token": "glpat-secret" },
  });
  expect(String(received[0]?.body)).toBe("");
});

test.each(["$HOME", "a${HOME}b", "two words", 'a"b', "", "x".repeat(513)])(
  "%j is no token that is taken",
  async (token) => {
    const { target } = await coordinator(
      { status: 201, body: JSON.stringify({ id: 1, token }) },
      { status: 201, body: JSON.stringify({ token }) },
    );
    for (const answer of [
      await register(target, wish, info, testDeps(), never),
      await resetToken(target, { token: "glrt-old" }, testDeps(), never),
    ]) {
      expect(answer).toMatchObject({
        kind: "trouble",
        message: expect.stringMatching(/^Cannot .*token.*Check the url$/),
      });
      if (token !== "") expect(answer).not.toMatchObject({ message: expect.stringContaining(token) });
    }
  },
);
