import { spawn } from "node:child_process";
import { createSign, generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { builtBy } from "../built.ts";
import { freePort } from "../free-port.ts";

/** The real thing: an OpenBao that keeps everything in memory. */
export interface TestOpenBao {
  readonly url: string;
  /** A call of its API as its operator. @throws {Error} it is refused */
  call(method: "POST" | "PUT" | "DELETE", path: string, body?: object, namespace?: string): Promise<void>;
  /** Tokens that its logins of `addLogin` accept, as a coordinator signs them. */
  sign(claims?: Readonly<Record<string, unknown>>): string;
  /** Has jobs log in at `path` with such a token in the role `reader`, which may read below `kv` and `old`. */
  addLogin(path: string, namespace?: string): Promise<void>;
  close(): Promise<void>;
}

const OPERATOR = "the-token-of-the-operator";
const START_MS = 30_000;

/** Starts OpenBao, which is installed where it is missing: that takes some seconds. */
export async function startOpenBao(dir: string): Promise<TestOpenBao> {
  const installed = await builtBy(join(import.meta.dirname, "openbao.sh"));
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const options = [`-dev-root-token-id=${OPERATOR}`, `-dev-listen-address=127.0.0.1:${port}`, "-dev-no-store-token"];
  const server = spawn(installed, ["server", "-dev", ...options], {
    stdio: "ignore",
    env: { HOME: dir, PATH: process.env.PATH ?? "" },
  });
  const exited = once(server, "exit");
  const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });

  const call: TestOpenBao["call"] = async (method, path, body, namespace) => {
    const headers: Record<string, string> = { "x-vault-token": OPERATOR };
    if (namespace !== undefined) headers["x-vault-namespace"] = namespace;
    const signal = AbortSignal.timeout(10_000);
    const sent = body === undefined ? {} : { body: JSON.stringify(body) };
    const answer = await fetch(`${url}/v1/${path}`, { method, headers, signal, ...sent });
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
  };
  const close = async (): Promise<void> => {
    server.kill("SIGKILL");
    await exited;
  };
  try {
    await untilHealthy(url, server);
  } catch (error) {
    await close();
    throw error;
  }
  return {
    url,
    call,
    close,
    sign(claims = {}) {
      const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
      const now = Math.floor(Date.now() / 1000);
      const body = { iss: "coordinator", aud: url, sub: "project_path:group/project", iat: now, exp: now + 600 };
      const signed = `${part({ alg: "RS256", typ: "JWT" })}.${part({ ...body, ...claims })}`;
      return `${signed}.${createSign("RSA-SHA256").update(signed).sign(privateKey, "base64url")}`;
    },
    async addLogin(path, namespace) {
      const pem = publicKey.export({ type: "spki", format: "pem" }).toString();
      await call("POST", `sys/auth/${path}`, { type: "jwt" }, namespace);
      await call("POST", `auth/${path}/config`, { jwt_validation_pubkeys: [pem] }, namespace);
      const paths = ["kv", "old"].map((mount) => `path "${mount}/*" { capabilities = ["read"] }`);
      const policy = [...paths, `path "kv/data/forbidden" { capabilities = ["deny"] }`].join("\n");
      await call("PUT", "sys/policies/acl/reading", { policy }, namespace);
      const role = { role_type: "jwt", bound_audiences: [url], user_claim: "sub", token_policies: ["reading"] };
      await call("POST", `auth/${path}/role/reader`, role, namespace);
    },
  };
}

async function untilHealthy(url: string, server: { readonly exitCode: number | null }): Promise<void> {
  const end = Date.now() + START_MS;
  while (Date.now() < end && server.exitCode === null) {
    const answer = await fetch(`${url}/v1/sys/health`, { signal: AbortSignal.timeout(1000) }).catch(() => null);
    if (answer?.ok) return;
    await wait(50);
  }
  throw new Error("OpenBao does not start");
}
