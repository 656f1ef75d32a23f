import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createWeb, isLocalOrMetadata } from "../../../src/commands/exec/file/web.ts";
import { createConnections } from "../../../src/coordinator/connection/connections.ts";
import { createRemoteFiles } from "../../../src/local/gitlab/around/remote.ts";

let server: Server;
let origin: string;
let cacheDir: string;
let asked = 0;
let late = 0;
beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), "alloy-includes-"));
  server = createServer((request, response) => {
    asked++;
    if (request.url === "/hang.yml") return;
    if (request.url === "/down.yml") return void response.writeHead(503).end();
    if (request.url === "/late.yml" && ++late < 3)
      return late === 1 ? void request.socket.destroy() : void response.writeHead(502).end();
    if (request.url === "/large.yml") response.end("x".repeat(3 * 1024 * 1024));
    else if (request.url === "/ci.yml" || request.url === "/late.yml") response.end("a: 1\n");
    else if (request.url === "/moved.yml") response.writeHead(302, { location: "/ci.yml" }).end();
    else if (request.url === "/to-file.yml") response.writeHead(302, { location: "file:///etc/passwd" }).end();
    else if (request.url === "/to-cloud.yml") response.writeHead(302, { location: "http://169.254.1.1/a.yml" }).end();
    else if (request.url === "/round.yml") response.writeHead(302, { location: "/round.yml" }).end();
    else response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  origin = `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`;
});
afterAll(async () => {
  server.closeAllConnections();
  server.close();
  await rm(cacheDir, { recursive: true });
});

const connections = createConnections({
  environment: {},
  lookup: (_name, options, callback) =>
    options.all ? callback(null, [{ address: "127.0.0.1", family: 4 }]) : callback(null, "127.0.0.1", 4),
});
const tls = { tlsCaFile: undefined, tlsCertFile: undefined, tlsKeyFile: undefined, certsDir: "/nonexistent" };
const web = (isAvoided: (address: string) => boolean) => createWeb({ connections, tls, userAgent: "test", isAvoided });
afterAll(async () => await connections.close());

const files = (offline: boolean, timeoutMs: number = 30_000) =>
  createRemoteFiles({ fetchText: web(() => false), cacheDir, offline, timeoutMs, pausesMs: [1, 1] });

test("a remote file is fetched once a run, and is there offline", async () => {
  expect(await files(true)(`${origin}/ci.yml`)).toEqual({ problem: expect.stringContaining("--offline") });
  const online = files(false);
  expect(await Promise.all([online(`${origin}/ci.yml`), online(`${origin}/ci.yml`)])).toEqual([
    { found: "a: 1\n" },
    { found: "a: 1\n" },
  ]);
  expect(asked).toBe(1);
  expect(await files(true)(`${origin}/ci.yml`)).toEqual({ found: "a: 1\n" });
  expect(asked).toBe(1);
});

test("one that is missing, too large or never answers is a sentence", async () => {
  expect(await files(false)(`${origin}/none.yml`)).toEqual({ problem: "cannot be fetched: the server answers 404" });
  expect(await files(false)(`${origin}/large.yml`)).toEqual({
    problem: "cannot be fetched: the answer is larger than 2097152 bytes",
  });
  expect(await files(false, 200)(`${origin}/hang.yml`)).toEqual({
    problem: "cannot be fetched: there was no answer within 0.2 s",
  });
});

test("a server that fails, or hangs up, is asked three times; one that says no, once", async () => {
  expect(await files(false)(`${origin}/late.yml`)).toEqual({ found: "a: 1\n" });
  const before = asked;
  expect(await files(false)(`${origin}/down.yml`)).toEqual({ problem: "cannot be fetched: the server answers 503" });
  expect(asked - before).toBe(3);
  await files(false)(`${origin}/none.yml`);
  expect(asked - before).toBe(4);
});

test("redirects are followed, to the web only and not for ever", async () => {
  const get = files(false);
  expect(await get(`${origin}/moved.yml`)).toEqual({ found: "a: 1\n" });
  expect(await get(`${origin}/to-file.yml`)).toEqual({ problem: "cannot be fetched: the server redirects to file:" });
  expect(await get(`${origin}/round.yml`)).toEqual({ problem: "cannot be fetched: there are more than 5 redirects" });
  const careful = web((address) => address.startsWith("169.254."));
  expect(await careful(`${origin}/to-cloud.yml`, 100, new AbortController().signal)).toEqual({
    problem: expect.stringContaining("is not fetched"),
  });
});

test("what listens on this machine is not asked, by whatever name", async () => {
  const before = asked;
  const { port } = new URL(origin);
  for (const host of ["127.0.0.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "innocent.example"])
    expect(
      await web(isLocalOrMetadata)(`http://${host}:${port}/ci.yml`, 100, new AbortController().signal),
      host,
    ).toEqual({ problem: "is not fetched: it is an address of this machine itself, or a link-local one" });
  expect(asked).toBe(before);
  expect(
    ["169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "10.0.0.1", "192.168.1.1"].map(isLocalOrMetadata),
  ).toEqual([true, true, true, false, false]);
});
