import { isLoopback, readListenAddress } from "../serving/address.ts";
import type { WebConfig } from "./config.ts";
import { expandVariables } from "./expand.ts";

const DEFAULT_PORT = 9253;
const SHORTEST_PASSWORD = 12;

/** `[web]` as the file has it. */
interface WebTable {
  readonly listen_address?: string | undefined;
  readonly password?: string | undefined;
}

interface WebProblem {
  readonly key: keyof WebTable;
  readonly problem: string;
}

/** @returns what the page is served with; null: not at all; or what is wrong */
export function readWeb(
  { listen_address = "", password: written = "" }: WebTable,
  env: Readonly<Record<string, string | undefined>>,
): WebConfig | null | WebProblem {
  if (listen_address.trim() === "") return null;
  const address = readListenAddress(listen_address, DEFAULT_PORT);
  if (address === null) {
    const problem = `${JSON.stringify(listen_address)} is no address: write ":port", "host:port" or "[IPv6]:port", such as "127.0.0.1:${DEFAULT_PORT}"`;
    return { key: "listen_address", problem };
  }
  const { text: password, missing } = expandVariables(written, env);
  if (missing.length > 0) {
    return { key: "password", problem: `needs $${missing[0]}, which is not in the runner's environment. Set it` };
  }
  if (password !== "" && [...password].length < SHORTEST_PASSWORD) {
    return { key: "password", problem: `is too short: write at least ${SHORTEST_PASSWORD} characters` };
  }
  const { host = "127.0.0.1", port } = address;
  if (password === "" && !isLoopback(host)) {
    const problem = `would show jobs and traces to everybody who reaches ${host}. Set a password beside it, or listen on 127.0.0.1`;
    return { key: "listen_address", problem };
  }
  return { host, port, password: password === "" ? null : password };
}
