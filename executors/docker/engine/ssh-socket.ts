import { spawn } from "node:child_process";
import type { Socket } from "node:net";
import { quoted } from "../../remote/index.ts";
import type { Endpoint } from "./endpoint.ts";
import { openSocketHere } from "./socket-here.ts";

const LONGEST_COMPLAINT = 2000;
/** What shells say of a program that is not there. */
const NOT_FOUND = 127;
type Program = "docker" | "podman";
/** A first request is shorter than this. */
const MOST_KEPT_BYTES = 1024 * 1024;

interface SshSocket {
  /** A socket here that leads to the daemon there. */
  readonly path: string;
  /** What ssh said last, if it said something. */
  complaint(): string;
  close(): Promise<void>;
}

/**
 * A daemon behind SSH, as the docker command reaches it: each connection is one `ssh HOST docker system dial-stdio` (`podman`, where
 * there is no docker), with the account's own ssh configuration, keys and known hosts. The socket lies in a private directory.
 * @throws {SystemFailure} the socket cannot be made
 */
export async function openSshSocket(
  endpoint: Extract<Endpoint, { kind: "ssh" }>,
  scratchDir: string,
): Promise<SshSocket> {
  let said = "";
  let program: Program = "docker";

  /** One connection. Until something comes back, what was sent is kept: it may have to be sent to another program. */
  const connect = (socket: Socket, client: Program, sent: Buffer[]): void => {
    const child = spawn("ssh", sshArguments(endpoint, client), { stdio: ["pipe", "pipe", "pipe"], windowsHide: true });
    let answered = false;
    let over = false;
    let kept = sent.reduce((sum, chunk) => sum + chunk.length, 0);
    const keep = (chunk: Buffer): void => {
      kept += chunk.length;
      if (kept <= MOST_KEPT_BYTES) sent.push(chunk);
      else settle();
    };
    const settle = (): void => {
      answered = true;
      socket.off("data", keep);
      sent.length = 0;
    };
    const leave = (): void => {
      socket.off("data", keep).off("close", end);
      socket.unpipe(child.stdin);
    };
    const end = (): void => {
      if (over) return;
      over = true;
      leave();
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
    child.stdout.once("data", () => {
      said = "";
      settle();
    });
    child.stdout.on("end", () => {
      if (answered && !over) socket.end();
    });
    child.on("close", (code) => {
      if (over) return;
      over = true;
      leave();
      if (answered || code !== NOT_FOUND || client === "podman") {
        socket.end();
        socket.resume();
        return;
      }
      program = "podman";
      connect(socket, program, sent);
    });
    socket.on("close", end);
    for (const chunk of sent) child.stdin.write(chunk);
    if (socket.readableEnded) child.stdin.end();
    else {
      socket.on("data", keep);
      socket.pipe(child.stdin);
    }
    child.stdout.pipe(socket, { end: false });
  };

  const { path, close } = await openSocketHere(endpoint.address, scratchDir, (socket) => connect(socket, program, []));
  return {
    path,
    complaint: () => said.trim().replace(/\s*\n\s*/g, "; "),
    close,
  };
}

function sshArguments({ host, port, user, path }: Extract<Endpoint, { kind: "ssh" }>, program: Program): string[] {
  // The shell of the far host reads the words once more.
  const at = path === "" ? [] : [program === "docker" ? "--host" : "--url", `unix://${quoted([path])}`];
  const remote = [program, ...at, "system", "dial-stdio"];
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
