import { describeError, SystemFailure } from "../../src/errors.ts";
import { quoted } from "../remote/index.ts";
import { createLink, type Link, type SshChannel, type SshConnection } from "../ssh/over-ssh.ts";

const DEFAULT_SOCKET = "/var/run/docker.sock";
const LONGEST_COMPLAINT = 2000;

/** Connections to an instance's engine. */
export interface EngineDial {
  /** @throws {SystemFailure} it cannot be reached */
  dial(): Promise<SshChannel>;
  /** What was said last of a connection that came to nothing. */
  complaint(): string;
  close(): void;
}

/**
 * Connections over SSH, all of them on one login as long as that lasts: to the engine's socket, where sshd and the socket's rights allow
 * it; else by `docker system dial-stdio`, or podman's, which is a process of the account there.
 * @param host of `[runners.docker]`, as the instance has it
 */
export function createDial(host: string, logIn: (signal: AbortSignal) => Promise<SshConnection>): EngineDial {
  const socket = /^(?:unix:\/\/)?(\/.*)$/.exec(host)?.[1] ?? (host === "" ? DEFAULT_SOCKET : null);
  let forwards = socket !== null;
  let said = "";
  let opening: Promise<Login> | null = null;
  const life = new AbortController();

  const open = async (): Promise<Login> => {
    const connection = await logIn(life.signal);
    const link = createLink(connection, logIn);
    const login = { connection, link };
    connection.lost.addEventListener("abort", () => end(login), { once: true });
    if (life.signal.aborted) link.close();
    return login;
  };
  const end = (login: Login): void => {
    login.link.close();
    opening = null;
  };
  const login = async (): Promise<Login> => {
    opening ??= open().catch((error: unknown) => {
      opening = null;
      throw error;
    });
    return await opening;
  };

  const overStdio = async (link: Link, signal: AbortSignal): Promise<SshChannel> => {
    const channel = await link.exec(dialStdio(host), signal);
    let heard = "";
    channel.stderr.on("data", (chunk: Buffer) => {
      heard = (heard + chunk.toString()).slice(-LONGEST_COMPLAINT);
      said = heard.trim().replace(/\s*\n\s*/g, "; ");
    });
    channel.stdout.once("data", () => {
      forwards = false;
      said = "";
    });
    return channel;
  };

  return {
    async dial() {
      const { signal } = life;
      const { connection, link } = await login().catch((error: unknown) => {
        said = describeError(error);
        throw error;
      });
      if (socket === null || !forwards) return await overStdio(link, signal);
      try {
        return await connection.forwardSocket(socket, signal);
      } catch (error) {
        if (!(error instanceof SystemFailure) || connection.lost.aborted) throw error;
        said = describeError(error);
        return await overStdio(link, signal);
      }
    },
    complaint: () => said,
    close() {
      life.abort(new SystemFailure("the connection to the engine is closed"));
      void opening?.then(end, () => {});
    },
  };
}

interface Login {
  readonly connection: SshConnection;
  readonly link: Link;
}

/** The shell of the account reads the words once more. */
function dialStdio(host: string): string {
  const [docker, podman] = host === "" ? ["", ""] : [`--host ${quoted([host])} `, `--url ${quoted([host])} `];
  const program = `if command -v docker >/dev/null 2>&1; then exec docker ${docker}system dial-stdio; else exec podman ${podman}system dial-stdio; fi`;
  return `exec sh -c ${quoted([program])}`;
}
