import { afterAll, beforeAll, expect, test } from "vitest";
import { openSite, type Site } from "../support/site.ts";
import { openVault, VAULT_JWT, vaultSecret } from "../support/stores/vault.ts";

let site: Site;
beforeAll(async () => {
  site = await openSite({ dialect: "gitlab", entry: 'plain_http_secret_servers = ["127.0.0.1"]' });
}, 60_000);
afterAll(async () => await site?.close());

test("the built runner asks for a job's secrets, puts its inputs in, and shows neither", async () => {
  const vault = await openVault();
  const job = site.coordinator.enqueue({
    script: ['echo "for ${{ job.inputs.whom }}: $PASSWORD"', 'test "$(cat "$FILE")" = kv1-pass-"word"'],
    variables: [{ key: "VAULT_ID_TOKEN", value: VAULT_JWT, masked: true, public: false, raw: true }],
    payload: {
      inputs: [{ key: "whom", value: { type: "string", content: "everybody" } }],
      secrets: {
        PASSWORD: { vault: vaultSecret(vault.url), file: false },
        FILE: { vault: vaultSecret(vault.url, { engine: { name: "kv-v1", path: "old" } }) },
      },
    },
  });
  const { state } = await job.reported({ timeoutMs: 60_000 });
  expect(state, job.trace).toBe("success");
  expect(job.trace).toContain("for everybody: [MASKED]");
  expect(job.trace).not.toContain("kv2-pass-word");
  expect(site.runner.stderr()).not.toMatch(/kv\d-pass-word|hvs\./);
});
