import { generateKeyPairSync } from "node:crypto";
import { copyFile, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { openSite } from "../support/site.ts";
import { openClouds } from "../support/stores/clouds.ts";
import { googleStorage } from "../support/stores/google-storage.ts";

test("the built runner keeps caches in a bucket of Google's, through the proxy that leads there", async () => {
  const { privateKey, publicKey } = generateKeyPairSync("rsa", {
    modulusLength: 2048,
    publicKeyEncoding: { type: "spki", format: "pem" },
    privateKeyEncoding: { type: "pkcs8", format: "pem" },
  });
  const storage = googleStorage({ publicKey });
  const clouds = await openClouds({ "storage.googleapis.com": storage.answer });
  const site = await openSite({
    dialect: "gitlab",
    stopped: true,
    entry:
      '[runners.cache]\nType = "gcs"\nPath = "ci"\n[runners.cache.gcs]\nBucketName = "caches"\nCredentialsFile = "key.json"',
  });
  try {
    await mkdir(join(site.dir, "certs"));
    await copyFile(join(clouds.certsDir, "authority.crt"), join(site.dir, "certs/storage.googleapis.com.crt"));
    const account = {
      type: "service_account",
      client_email: "cache@p.iam.gserviceaccount.com",
      private_key: privateKey,
    };
    await writeFile(join(site.workDir, "key.json"), JSON.stringify(account));
    await site.start({ env: { ...clouds.environment, NO_PROXY: "127.0.0.1" } });
    const run = async (script: readonly string[]) => {
      const cache = { key: "deps", paths: ["deps"], policy: "pull-push", when: "on_success" };
      const job = site.coordinator.enqueue({ script, cache: [cache] });
      const { state } = await job.reported({ timeoutMs: 60_000 });
      expect(state, job.trace).toBe("success");
      return job.trace;
    };
    expect(await run(["mkdir deps && echo kept > deps/file"])).toContain("Saved cache deps");
    expect([...storage.objects.keys()]).toEqual([
      expect.stringMatching(/^\/caches\/ci\/runner\/[0-9a-f]{8}\/project\/1\/deps/),
    ]);
    const trace = await run(["grep kept deps/file"]);
    expect(trace).toContain("in the bucket caches");
    expect(`${trace}${site.runner.stderr()}`).not.toMatch(/X-Goog-Signature|PRIVATE KEY/);
  } finally {
    await site.close();
  }
});
