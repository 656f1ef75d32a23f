import { readFileSync } from "node:fs";
import { copyFile } from "node:fs/promises";
import { join } from "node:path";
import { createConnections } from "../../../src/coordinator/connection/connections.ts";
import { type Answerer, after, createAuthority, type Reply, scratch, site } from "../../coordinator/server.ts";
import { startProxy } from "../proxy.ts";

export type CloudRequest = Parameters<Answerer>[0];

/** Hosts of clouds by their real names, which lead here through a proxy. */
export interface TestClouds {
  /** For the runner: the proxy. */
  readonly environment: Readonly<Record<string, string>>;
  /** With the authority that has signed for all of them. */
  readonly certsDir: string;
  readonly connections: ReturnType<typeof createConnections>;
  readonly received: readonly CloudRequest[];
}

export async function openClouds(
  hosts: Readonly<Record<string, (request: CloudRequest) => Reply | Promise<Reply>>>,
): Promise<TestClouds> {
  const certsDir = scratch();
  const authority = createAuthority(certsDir);
  const names = Object.keys(hosts);
  const leaf = authority.sign("leaf", names.map((name) => `DNS:${name}`).join(","));
  for (const name of names) await copyFile(authority.file, join(certsDir, `${name}.crt`));
  const tls = { cert: readFileSync(leaf.cert, "utf8"), key: readFileSync(leaf.key, "utf8") };
  const { url, received } = await site(
    (request) => hosts[request.headers.host ?? ""]?.(request) ?? { status: 421 },
    tls,
    "127.0.0.1",
  );
  const proxy = await startProxy({
    places: Object.fromEntries(names.map((name) => [`${name}:443`, Number(url.port)])),
  });
  const environment = { HTTPS_PROXY: `http://${proxy.host}` };
  const connections = createConnections({ environment });
  after(async () => {
    await connections.close();
    await proxy.close();
  });
  return { environment, certsDir, connections, received };
}

export function json(status: number, body: unknown, headers: Record<string, string> = {}): Reply {
  return { status, headers: { "content-type": "application/json", ...headers }, body: JSON.stringify(body) };
}
