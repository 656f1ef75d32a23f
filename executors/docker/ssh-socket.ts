import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { SystemFailure } from "../../src/errors.ts";
import type { Endpoint } from "./endpoint.ts";

const LONGEST_COMPLAINT = 2000;

export interface SshSocket {
  /** A socket here that leads to the daemon there. */
  readonly path: string;
  /** What ssh said last, if it said something. */
  complaint(): string;
  close(): Promise<void>;
}

/**
 * A daemon behind SSH, as the docker command reaches it: each connection is one `ssh HOST docker system dial-stdio`, with the
 * account's own ssh configuration, keys and known hosts. The socket lies in a private directory.
 * @throws {SystemFailure} the socket cannot be made
 */
export async function openSshSocket(
  endpoint: Extract<Endpoint, { kind: "ssh" }>,
  scratchDir: string,
): Promise<SshSocket> {
  const folder = process.platform === "win32" ? null : await mkdtemp(join(scratchDir, "e-"));
  const path = folder === null ? `\\\\.\\pipe\\alloy-runner-${randomBytes(16).toString("hex")}` : join(folder, "s");
  const argv = sshArguments(endpoint);
  const open = new Set<Socket>();
  let said = "";

  const server = createServer({ allowHalfOpen: true }, (socket) => {
    open.add(socket);
    const child = spawn("ssh", argv, { stdio: ["pipe", "pipe", "pipe"], windowsHide: true });
    const end = (): void => {
      child.kill("SIGTERM");
      socket.destroy();
    };
    child.on("error", (error) => {
      said = `cannot start ssh: ${error.message}`;
      end();
    });
    child.stderr.on("data", (chunk: Buffer) => {
      said = (said + chunk.toString("utf8")).slice(-LONGEST_COMPLAINT);
    });
    child.stdin.on("error", () => {});
    socket.on("error", end);
    socket.on("close", () => {
      open.delete(socket);
      child.kill("SIGTERM");
    });
    socket.pipe(child.stdin);
    child.stdout.pipe(socket);
    socket.once("data", () => {
      said = "";
    });
  });
  server.on("error", () => {});
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, () => resolve());
  }).catch(async (cause: unknown) => {
    if (folder !== null) await rm(folder, { recursive: true, force: true });
    throw new SystemFailure(`Cannot make a socket for the connection to ${endpoint.address}`, { cause, retry: true });
  });
  // It serves calls that are waited for: it does not keep the process alive by itself.
  server.unref();

  return {
    path,
    complaint: () => said.trim().replace(/\s*\n\s*/g, "; "),
    close: async () => {
      for (const socket of open) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
      if (folder !== null) await rm(folder, { recursive: true, force: true });
    },
  };
}

function sshArguments({ host, port, user, path }: Extract<Endpoint, { kind: "ssh" }>): string[] {
  const remote =
    path === ""
      ? ["docker", "system", "dial-stdio"]
      : ["docker", "--host", `unix://${quoted(path)}`, "system", "dial-stdio"];
  return [
    "-T",
    "-o",
    "BatchMode=yes",
    "-o",
    "ConnectTimeout=30",
    "-o",
    "ServerAliveInterval=15",
    ...(user === "" ? [] : ["-l", user]),
    ...(port === null ? [] : ["-p", String(port)]),
    "--",
    host,
    ...remote,
  ];
}

/** The far shell reads it once more. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
