import { afterAll, describe, expect, test } from "vitest";
import { createConnections } from "../../src/coordinator/connection/connections.ts";
import { Stop } from "../../src/errors.ts";
import type { SecretRequest } from "../../src/job/job.ts";
import type { ResolveSecrets } from "../../src/job/life/request.ts";
import { resolveSecrets } from "../../src/secrets/resolve.ts";
import { openVault, VAULT_JWT, vaultSecret } from "../support/stores/vault.ts";
import { createStand, jobWith, step, variable } from "./stand.ts";

const stand = createStand();
afterAll(() => stand.close());

const resolving: ResolveSecrets = (request, signal) =>
  resolveSecrets(
    request,
    {
      connections: createConnections(),
      userAgent: "test",
      tlsCaFile: undefined,
      certsDir: stand.dir,
      plainHttpHosts: ["127.0.0.1"],
      environment: {},
    },
    signal,
  );

const token = variable("VAULT_ID_TOKEN", VAULT_JWT, { public: false, masked: true, raw: true });
const secret = (name: string, wanted: unknown, file = false): SecretRequest => ({ name, file, from: "vault", wanted });

describe("a job with secrets", () => {
  test("has them as variables that win, masked in plain and in disguise, before anything is prepared", async () => {
    const vault = await openVault();
    const { outcome, trace, states } = await stand.run(
      jobWith({
        dialect: "gitlab",
        features: { traceSections: true, failureReasons: [], tokenMaskPrefixes: [] },
        variables: [variable("GIT_STRATEGY", "none"), variable("PASSWORD", "the job's own"), token],
        secrets: [
          secret("PASSWORD", vaultSecret(vault.url)),
          secret("PASSWORD_FILE", vaultSecret(vault.url, { engine: { name: "kv-v1", path: "old" } }), true),
        ],
        steps: [
          step("script", [
            'echo "plain $PASSWORD"; printf %s "$PASSWORD" | base64; echo "reversed $(printf %s "$PASSWORD" | rev)"',
            'echo "file $(cat "$PASSWORD_FILE")"; test -f "$PASSWORD_FILE" && wc -c < "$PASSWORD_FILE"',
          ]),
        ],
      }),
      { request: { resolveSecrets: resolving } },
    );
    expect(outcome, trace).toEqual({ result: "success" });
    expect(trace).toContain("plain [MASKED]");
    expect(trace).toContain("file [MASKED]");
    expect(trace).toContain("reversed drow-ssap-2vk");
    for (const shown of [
      "kv2-pass-word",
      "kv1-pass-word",
      Buffer.from("kv2-pass-word").toString("base64").slice(0, 12),
    ]) {
      expect(trace).not.toContain(shown);
    }
    expect(trace.indexOf("resolve_secrets")).toBeGreaterThan(0);
    expect(trace.indexOf("resolve_secrets")).toBeLessThan(trace.indexOf("prepare_executor"));
    expect(states.slice(0, 2)).toEqual([{ at: "resolving" }, { at: "preparing", attempt: 1 }]);
  });

  test("fails before anything runs, and as who is to blame for it", async () => {
    const vault = await openVault();
    const job = jobWith({
      dialect: "gitlab",
      variables: [variable("GIT_STRATEGY", "none"), token],
      secrets: [secret("PASSWORD", vaultSecret(vault.url, { path: "forbidden" }))],
      steps: [step("script", ["echo it-ran"])],
    });
    const { outcome, trace, states } = await stand.run(job, { request: { resolveSecrets: resolving } });
    expect(outcome).toMatchObject({ result: "failed", reason: "runner_configuration_error" });
    expect(trace).toMatch(/The job's secrets cannot be resolved: PASSWORD: .*status 403, permission denied/);
    expect(trace).not.toContain("it-ran");
    expect(states.some(({ at }) => at === "preparing")).toBe(false);
  });

  test("tries as often as it says, and runs without what is missing where its flag has it so", async () => {
    const vault = await openVault();
    vault.fail({ status: 502 });
    const flags = { FF_SECRET_RESOLVING_FAILS_IF_MISSING: "false", SECRETS_RETRIEVAL_ATTEMPTS: "2" };
    const { outcome, trace } = await stand.run(
      jobWith({
        dialect: "gitlab",
        variables: [
          variable("GIT_STRATEGY", "none"),
          token,
          ...Object.entries(flags).map(([key, value]) => variable(key, value)),
        ],
        secrets: [secret("PASSWORD", vaultSecret(vault.url, { path: "no-such" }))],
        steps: [step("script", ['echo "[$PASSWORD]"'])],
      }),
      { request: { resolveSecrets: resolving, secretsPauseMs: 5 } },
    );
    expect(outcome, trace).toEqual({ result: "success" });
    expect(trace).toContain("Attempt 1 of 2 failed");
    expect(trace).toContain("PASSWORD is empty");
  });

  test("that is canceled meanwhile waits for no store", async () => {
    const vault = await openVault();
    const canceling = new AbortController();
    vault.fail(...Array.from({ length: 30 }, () => ({ status: 503 })));
    const { outcome } = await stand.run(
      jobWith({
        dialect: "gitlab",
        variables: [variable("GIT_STRATEGY", "none"), variable("SECRETS_RETRIEVAL_ATTEMPTS", "10"), token],
        secrets: [secret("PASSWORD", vaultSecret(vault.url))],
      }),
      {
        request: { resolveSecrets: resolving, secretsPauseMs: 60_000 },
        signal: canceling.signal,
        onTrace: (text) => {
          if (text.includes("Attempt 1")) canceling.abort(new Stop("canceling", "by a test"));
        },
      },
    );
    expect(outcome).toEqual({ result: "canceled", message: "by a test" });
  });
});
