import { readdir, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { describeError } from "../../src/errors.ts";
import { deadline, never, retry } from "../../src/time.ts";
import type { CachePlace, CacheStore } from "../../src/transfer/cache/cache-store.ts";
import { createKeptCaches } from "../../src/transfer/cache/kept-caches.ts";
import { listen } from "../coordinator/server.ts";
import { createStand, jobWith, variable } from "../job/stand.ts";
import { silentLog } from "../support/executor-deps.ts";
import { openBucketStore } from "./bucket-store.ts";
import { ACCESS_KEY, openS3, type S3Server, SECRET_KEY } from "./s3-server.ts";

const place: CachePlace = { projectPath: "group/project", projectId: "5", key: "unit/refs/heads/größe+1 (a)*'!~%5C" };
const ignore = (): void => {};

async function put(store: CacheStore, content: string | Buffer, fingerprint = "f1", where = place): Promise<void> {
  const write = async (path: string): Promise<string> => {
    await writeFile(path, content, { flag: "wx" });
    return fingerprint;
  };
  await store.put(where, { extension: ".zip", write }, ignore, never);
}

async function contentOf(store: CacheStore, where = place): Promise<Buffer | null> {
  await using stored = await retry(
    { attempts: store.tries, firstMs: 5 },
    () => store.open(where, ignore, never),
    never,
  );
  return stored === null ? null : await stored.file.readFile();
}

async function failureOf(work: Promise<unknown>): Promise<string> {
  return await work.then(
    () => "it worked",
    (error: unknown) => describeError(error),
  );
}

describe("a bucket", () => {
  test("keeps what is put there, whatever its key, with its fingerprint", async () => {
    const s3 = await openS3();
    const { store, scratchDir } = openBucketStore(s3.endpoint);
    expect(await contentOf(store)).toBeNull();
    expect(await store.version(place, never)).toBeNull();
    expect(await store.fingerprint(place, never)).toBeNull();
    const content = Buffer.alloc(3_000_000, "0123456789abcde");
    await put(store, content);
    expect((await contentOf(store))?.equals(content)).toBe(true);
    expect(await store.fingerprint(place, never)).toBe("f1");
    const version = await store.version(place, never);
    expect(version).toContain("caches");
    await put(store, "other", "f2");
    expect(await store.version(place, never)).not.toBe(version);
    expect(String(await contentOf(store))).toBe("other");
    expect(await store.fingerprint(place, never)).toBe("f2");
    expect(await readdir(scratchDir)).toEqual([]);
  });

  test("names objects as the Go runner did, with the runner's hash for a piece of its token", async () => {
    const s3 = await openS3();
    const plain = { ...place, key: "k" };
    await put(openBucketStore(s3.endpoint).store, "x", "f", plain);
    await put(openBucketStore(s3.endpoint, { shared: true, prefix: "" }).store, "x", "f", plain);
    expect(s3.requests.filter(({ method }) => method === "PUT").map(({ url }) => url.pathname)).toEqual([
      "/caches/ci/runner/7e3b05c2/project/5/k",
      "/caches/project/5/k",
    ]);
  });

  test("reads what GitLab Runner left under its short token, and writes nothing there", async () => {
    const s3 = await openS3();
    const plain = { ...place, key: "k" };
    await put(openBucketStore(s3.endpoint, {}, { runnerId: "aBcDeFgHi" }).store, "before", "f", plain);
    const { store } = openBucketStore(s3.endpoint, {}, { shortToken: "aBcDeFgHi" });
    expect(String(await contentOf(store, plain))).toBe("before");
    expect(await store.version(plain, never)).toContain("ci/runner/aBcDeFgHi/project/5/k");
    expect(await store.fingerprint(plain, never)).toBeNull();
    await put(store, "own", "f", plain);
    expect(String(await contentOf(store, plain))).toBe("own");
    expect(s3.requests.filter(({ method }) => method === "PUT").map(({ url }) => url.pathname)).toEqual([
      "/caches/ci/runner/aBcDeFgHi/project/5/k",
      "/caches/ci/runner/7e3b05c2/project/5/k",
    ]);
    const asked = s3.requests.length;
    const shared = openBucketStore(s3.endpoint, { shared: true }, { shortToken: "aBcDeFgHi" }).store;
    expect(await contentOf(shared, plain)).toBeNull();
    expect(s3.requests).toHaveLength(asked + 1);
  });

  test("may be shut where GitLab Runner's caches are", async () => {
    const asked: string[] = [];
    const server = createServer(({ url = "" }, response) => {
      asked.push(url.split("?")[0] ?? "");
      response.writeHead(url.includes("/aBcDeFgHi/") ? 403 : 404).end();
    });
    const endpoint = new URL(`http://127.0.0.1:${await listen(server)}`);
    const { store } = openBucketStore(endpoint, {}, { shortToken: "aBcDeFgHi" });
    expect(await contentOf(store, { ...place, key: "k" })).toBeNull();
    expect(asked).toEqual(["/caches/ci/runner/7e3b05c2/project/5/k", "/caches/ci/runner/aBcDeFgHi/project/5/k"]);
  });

  test("signs for one object and method, no longer than the job", async () => {
    const s3 = await openS3();
    await put(openBucketStore(s3.endpoint, {}, { lifeMs: 90_000 }).store, "x");
    const signed = s3.requests.at(-1)?.url.searchParams;
    expect(signed?.get("X-Amz-Expires")).toBe("90");
    expect(signed?.get("X-Amz-SignedHeaders")).toContain("x-amz-meta-alloy-fingerprint;x-amz-meta-cachekey");
    const before = s3.requests.length;
    await put(openBucketStore(s3.endpoint, {}, { lifeMs: 30 * 86_400_000 }).store, "x");
    expect(s3.requests[before]?.url.searchParams.get("X-Amz-Expires")).toBe("604800");
  });

  test("is opened with what the cloud gives a container", async () => {
    const s3 = await openS3();
    let asked = 0;
    const metadata = createServer((_, response) => {
      asked++;
      const Expiration = new Date(Date.now() + 3_600_000).toISOString();
      response.setHeader("content-type", "application/json");
      response.end(
        JSON.stringify({ AccessKeyId: ACCESS_KEY, SecretAccessKey: SECRET_KEY, Token: "session/+=", Expiration }),
      );
    });
    const port = await listen(metadata);
    vi.stubEnv("AWS_CONTAINER_CREDENTIALS_FULL_URI", `http://127.0.0.1:${port}/credentials`);
    onTestFinished(() => void vi.unstubAllEnvs());
    const { store } = openBucketStore(s3.endpoint, { credentials: { from: "iam" } });
    await put(store, "by role");
    expect(String(await contentOf(store))).toBe("by role");
    expect(s3.requests.at(-1)?.url.searchParams.get("X-Amz-Security-Token")).toBe("session/+=");
    expect(asked).toBe(1);
  });

  test("asks for encryption at rest", async () => {
    const s3 = await openS3();
    await put(openBucketStore(s3.endpoint, { encryption: { algorithm: "aws:kms", keyId: "key-1" } }).store, "x");
    expect(s3.requests.at(-1)?.headers).toMatchObject({
      "x-amz-server-side-encryption": "aws:kms",
      "x-amz-server-side-encryption-aws-kms-key-id": "key-1",
    });
  });

  test("is reached by the bucket's own host where that is asked for", async () => {
    const hosts: (string | undefined)[] = [];
    const server = createServer((request, response) => {
      hosts.push(`${request.headers.host} ${request.url?.split("?")[0]}`);
      response.writeHead(404).end();
    });
    const port = await listen(server, "localhost");
    // Every name below localhost is this machine.
    const { store } = openBucketStore(new URL(`http://localhost:${port}`), { pathStyle: false });
    const answer = await failureOf(store.fingerprint({ ...place, key: "k" }, never));
    if (!answer.includes("ENOTFOUND"))
      expect(hosts).toEqual([`caches.localhost:${port} /ci/runner/7e3b05c2/project/5/k`]);
  });
});

describe("trouble with a bucket", () => {
  test("that may pass is waited for", async () => {
    const s3 = await openS3();
    const { store } = openBucketStore(s3.endpoint);
    s3.fail(503, null);
    await put(store, Buffer.alloc(500_000, 7));
    s3.fail(500, 500);
    expect((await contentOf(store))?.length).toBe(500_000);
    s3.cut(1000);
    expect((await contentOf(store))?.length).toBe(500_000);
  });

  test.each([
    ["1", 3],
    ["2", 3],
    ["5", 5],
  ])("RESTORE_CACHE_ATTEMPTS=%s and the bucket's own tries are one number", async (wanted, asked) => {
    const s3 = await openS3();
    const { store, scratchDir } = openBucketStore(s3.endpoint);
    s3.fail(...Array.from({ length: 20 }, () => 503));
    const stand = createStand();
    onTestFinished(async () => await stand.close());
    const none = (): Promise<never> => Promise.reject(new Error("there is no coordinator"));
    const { outcome, trace } = await stand.run(
      jobWith({
        variables: [variable("GIT_STRATEGY", "none"), variable("RESTORE_CACHE_ATTEMPTS", wanted)],
        cache: [{ key: "deps", untracked: false, paths: ["a"], policy: "pull", when: "on_success", fallbackKeys: [] }],
      }),
      {
        request: {
          transfers: {
            coordinator: { uploadArtifacts: none, downloadArtifacts: none },
            openCaches: async () => store,
            keptCaches: createKeptCaches({ log: silentLog }),
            scratchDir,
            minFreeBytes: () => 0,
          },
        },
      },
    );
    expect(outcome.result, trace).toBe("success");
    expect(trace).toMatch(/The cache deps was not restored: .*status 503/);
    expect(s3.requests).toHaveLength(asked);
  });

  test("an upload that failed leaves the old cache and its fingerprint", async () => {
    const s3 = await openS3();
    const { store, scratchDir } = openBucketStore(s3.endpoint);
    await put(store, "old", "old files");
    s3.fail(503, 503, 503);
    expect(await failureOf(put(store, "new", "new files"))).toMatch(/cannot write to the bucket caches.*status 503/);
    expect(await store.fingerprint(place, never)).toBe("old files");
    expect(String(await contentOf(store))).toBe("old");
    expect(await readdir(scratchDir)).toEqual([]);
  });

  test.each([
    [
      "a wrong secret",
      { credentials: { from: "key", accessKey: ACCESS_KEY, secretKey: "wrong", sessionToken: undefined } },
      /403, SignatureDoesNotMatch/,
    ],
    [
      "an unknown key",
      { credentials: { from: "key", accessKey: "who", secretKey: "wrong", sessionToken: undefined } },
      /403, InvalidAccessKeyId/,
    ],
    ["a bucket that is not there", { name: "other" }, /bucket other .*404, NoSuchBucket/],
  ] as const)("%s is told, once and without a secret", async (_, bucket, expected) => {
    const s3 = await openS3();
    const { store } = openBucketStore(s3.endpoint, bucket);
    const said = await failureOf(store.open(place, ignore, never));
    expect(said).toMatch(expected);
    expect(said).not.toMatch(/X-Amz|wrong/);
    expect(s3.requests).toHaveLength(1);
  });

  test("a bucket elsewhere is told with the key to set", async () => {
    const server = createServer((_, response) => {
      response.writeHead(400, { "content-type": "application/xml" });
      response.end(
        "<Error><Code>AuthorizationHeaderMalformed</Code><Message>wrong</Message><Region>eu-west-1</Region></Error>",
      );
    });
    const { store } = openBucketStore(new URL(`http://127.0.0.1:${await listen(server)}`));
    expect(await failureOf(store.fingerprint(place, never))).toMatch(/the bucket is in eu-west-1: set BucketLocation/);
  });

  test("a redirect is not followed with a signature", async () => {
    let reached = 0;
    const other = createServer((_, response) => {
      reached++;
      response.end("stolen");
    });
    const port = await listen(other);
    const server = createServer((_, response) => {
      response.writeHead(307, { location: `http://127.0.0.1:${port}/` }).end();
    });
    const { store } = openBucketStore(new URL(`http://127.0.0.1:${await listen(server)}`));
    expect(await failureOf(store.open(place, ignore, never))).toMatch(/status 307/);
    expect(reached).toBe(0);
  });

  test("nobody there, and nobody who answers, end in bounded time", async () => {
    const { store } = openBucketStore(new URL("http://127.0.0.1:1"));
    expect(await failureOf(store.open(place, ignore, never))).toMatch(/ECONNREFUSED/);
    const silent = createServer(() => {});
    const hung = openBucketStore(new URL(`http://127.0.0.1:${await listen(silent)}`));
    using limit = deadline(never, 50, new Error("too long"));
    expect(await failureOf(hung.store.open(place, ignore, limit.signal))).toBe("too long");
    expect(await readdir(hung.scratchDir)).toEqual([]);
  });

  test("an archive above MaxUploadedArchiveSize stays here", async () => {
    const s3: S3Server = await openS3();
    const { store } = openBucketStore(s3.endpoint, {}, { maxUploadBytes: 3 });
    expect(await failureOf(put(store, "four"))).toMatch(/MaxUploadedArchiveSize/);
    expect(s3.requests).toEqual([]);
  });
});
