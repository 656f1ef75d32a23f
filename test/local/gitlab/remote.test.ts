import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createRemoteFiles } from "../../../src/local/gitlab/around/remote.ts";

let server: Server;
let origin: string;
let cacheDir: string;
let asked = 0;
beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), "alloy-includes-"));
  server = createServer((request, response) => {
    asked++;
    if (request.url === "/hang.yml") return;
    if (request.url === "/large.yml") response.end("x".repeat(3 * 1024 * 1024));
    else if (request.url === "/ci.yml") response.end("a: 1\n");
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

const files = (offline: boolean, timeoutMs: number = 30_000) => createRemoteFiles({ cacheDir, offline, timeoutMs });

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
  expect(await files(false)(`${origin}/large.yml`)).toEqual({ problem: "is larger than 2097152 bytes" });
  expect(await files(false, 200)(`${origin}/hang.yml`)).toEqual({
    problem: "cannot be fetched: there was no answer within 0.2 s",
  });
});
