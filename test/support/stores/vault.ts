import { type Answerer, type Reply, site } from "../../coordinator/server.ts";

/** A stand-in for Vault, with one JWT login and some secrets. It can be told to misbehave. */
export interface TestVault {
  readonly url: string;
  readonly received: Awaited<ReturnType<typeof site>>["received"];
  /** Answers the next requests so, whatever they ask. */
  fail(...answers: Reply[]): void;
}

export const VAULT_JWT = "eyJhbGciOiJub25l.a-token-of-the-job.sig";
const TOKEN = "hvs.a-token-of-vault";

const secrets: Readonly<Record<string, unknown>> = {
  "/v1/kv/data/production/db": {
    data: {
      data: { password: "kv2-pass-word", port: 5432, ratio: "@1.50@", more: { a: [1] } },
      metadata: { version: 1 },
    },
  },
  "/v1/kv/data/deleted": { data: { data: null, metadata: {} } },
  "/v1/old/production/db": { data: { password: "kv1-pass-word" } },
  "/v1/team/kv/data/a%20b": { data: { data: { password: "path-pass-word" } } },
};

/** `lines/7`: a secret of its own of 2000 lines. */
function linesAt(path: string): unknown {
  const [, number] = /^\/v1\/kv\/data\/lines\/(\d+)$/.exec(path) ?? [];
  if (number === undefined) return undefined;
  return { data: { data: { password: `secret line of ${number}\n`.repeat(2000) } } };
}

const json = (status: number, body: unknown): Reply => ({
  status,
  headers: { "content-type": "application/json" },
  body: JSON.stringify(body).replace('"@1.50@"', "1.50"),
});

export async function openVault({ namespace }: { namespace?: string } = {}): Promise<TestVault> {
  const failures: Reply[] = [];
  const answer: Answerer = ({ method, path, headers, body }) => {
    const failure = failures.shift();
    if (failure !== undefined) return failure;
    if (headers["x-vault-request"] !== "true") return json(400, { errors: ["missing header"] });
    if (headers["x-vault-namespace"] !== namespace) return json(403, { errors: ["permission denied"] });
    if (/^\/v1\/auth\/jwt\/ci\/login$/.test(path) && (method === "PUT" || method === "POST")) {
      const { jwt, role } = JSON.parse(body.toString());
      if (jwt !== VAULT_JWT) return json(400, { errors: ["error validating token: invalid signature"] });
      if (role !== "reader") return json(400, { errors: [`role "${role}" could not be found`] });
      return json(200, { auth: { client_token: TOKEN, lease_duration: 3600 } });
    }
    if (headers["x-vault-token"] !== TOKEN) return json(403, { errors: ["permission denied"] });
    const found = secrets[path] ?? linesAt(path);
    // A deleted version has a body, and says 404 all the same.
    if (found === undefined)
      return json(path.startsWith("/v1/kv/data/no-") ? 404 : 403, {
        errors: path.startsWith("/v1/kv/data/no-") ? [] : ["permission denied"],
      });
    return json(path.endsWith("deleted") ? 404 : 200, found);
  };
  const { url, received } = await site(answer, undefined, "127.0.0.1");
  return { url: url.origin, received, fail: (...answers) => void failures.push(...answers) };
}

/** `vault` of a job's secret. */
export function vaultSecret(url: string, more: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
  return {
    server: {
      url,
      namespace: "",
      auth: { name: "jwt", path: "jwt/ci", data: { jwt: "$VAULT_ID_TOKEN", role: "reader" } },
    },
    engine: { name: "kv-v2", path: "kv" },
    path: "production/db",
    field: "password",
    ...more,
  };
}
