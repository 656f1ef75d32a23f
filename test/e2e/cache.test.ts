import { readdir } from "node:fs/promises";
import { createServer } from "node:http";
import { afterEach, expect, test } from "vitest";
import { listen } from "../coordinator/server.ts";
import { openSite, type Site } from "../support/site.ts";
import { ACCESS_KEY, openS3, SECRET_KEY } from "../transfer/s3-server.ts";

const open: Site[] = [];
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
});

test.each(["alloy", "gitlab"] as const)(
  "%s: caches in a bucket are shared, saved once and never shown",
  async (dialect) => {
    const s3 = await openS3();
    const site = await openSite({
      dialect,
      entry: `[runners.cache]
      Type = "s3"
      ServerAddress = "${s3.endpoint.host}"
      AccessKey = "${ACCESS_KEY}"
      SecretKey = "${SECRET_KEY}"
      BucketName = "caches"
      Insecure = true
      Shared = true`,
    });
    open.push(site);
    const common = { cache: { key: "node", paths: ["node_modules/"] }, variables: { GIT_STRATEGY: "none" } };
    const first = site.coordinator.enqueue({
      ...common,
      script: ["mkdir node_modules; head -c 3000000 /dev/urandom > node_modules/a; cksum node_modules/a"],
    });
    await first.finished();
    expect(first.status, first.trace).toBe("success");
    const sum = /^(\d+ 3000000) node_modules\/a/m.exec(first.trace)?.[1] ?? "none";
    const second = site.coordinator.enqueue({ ...common, script: ["cksum node_modules/a"] });
    await second.finished();
    expect(second.status, second.trace).toBe("success");
    expect(second.trace).toContain("Successfully restored cache node");
    expect(second.trace).toContain(sum);
    expect(second.trace).toContain("The cache node is up to date");
    expect(s3.requests.filter(({ method }) => method === "PUT")).toHaveLength(1);
    for (const text of [first.trace, second.trace, site.runner.stderr()]) {
      expect(text).not.toMatch(/X-Amz-/);
    }
    expect(await readdir(`${site.stateDir}`)).not.toContain("caches");
  },
);

test("many small files go through threads of the built program, as artifacts and as a cache", async () => {
  const site = await openSite({ dialect: "gitlab" });
  open.push(site);
  const sums = "cat out/* | cksum";
  const first = site.coordinator.enqueue({
    script: [`mkdir -p out; for i in $(seq 400); do seq $i $((i + 300)) > out/$i; done; ${sums}`],
    artifacts: { paths: ["out/"] },
    cache: { key: "k", paths: ["out/"] },
    variables: { CACHE_COMPRESSION_FORMAT: "zip" },
  });
  await first.finished();
  expect(first.status, first.trace).toBe("success");
  const sum = /^\d{5,} \d+$/m.exec(first.trace)?.[0] ?? "none";
  for (const how of [{ dependencies: [first] }, { cache: { key: "k", paths: ["out/"] } }]) {
    const next = site.coordinator.enqueue({ script: [`ls out | wc -l; ${sums}; rm -r out`], ...how });
    await next.finished();
    expect(next.status, next.trace).toBe("success");
    expect(next.trace).toMatch(/^400$/m);
    expect(next.trace).toContain(sum);
  }
  expect(site.runner.stderr()).not.toContain("thread");
});

test("a bucket is opened with the keys that the cloud gives this machine", async () => {
  const s3 = await openS3();
  const metadata = createServer((_, response) => {
    const Expiration = new Date(Date.now() + 3_600_000).toISOString();
    response.setHeader("content-type", "application/json");
    response.end(
      JSON.stringify({ AccessKeyId: ACCESS_KEY, SecretAccessKey: SECRET_KEY, Token: "of-the-cloud", Expiration }),
    );
  });
  const env = { AWS_CONTAINER_CREDENTIALS_FULL_URI: `http://127.0.0.1:${await listen(metadata)}/credentials` };
  const site = await openSite({
    dialect: "alloy",
    entry: `[runners.cache]
    Type = "s3"
    [runners.cache.s3]
    ServerAddress = "${s3.endpoint.host}"
    BucketName = "caches"
    Insecure = true
    AuthenticationType = "iam"`,
    run: { env },
  });
  open.push(site);
  const common = { cache: { key: "node", paths: ["kept"] }, variables: { GIT_STRATEGY: "none" } };
  for (const script of ["echo by-role > kept", "cat kept"]) {
    const job = site.coordinator.enqueue({ ...common, script: [script] });
    await job.finished();
    expect(job.status, job.trace).toBe("success");
    if (script === "cat kept") expect(job.trace).toMatch(/^by-role$/m);
  }
  expect(s3.requests.at(-1)?.url.searchParams.get("X-Amz-Security-Token")).toBe("of-the-cloud");
});
