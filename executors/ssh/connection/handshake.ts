import type { Duplex } from "node:stream";
import type { AlgorithmList, CipherAlgorithm, Client, ConnectConfig, ServerHostKeyAlgorithm } from "ssh2";
import { describeError, SystemFailure } from "../../../src/errors.ts";
import { CHACHA } from "../../common/ssh2/chacha20-poly1305.ts";
import { SSH_WORDS, type SshHost } from "../settings.ts";
import { type Authentication, openAuthentication } from "./authentication.ts";
import { type HostKeyCheck, openHostKeyCheck } from "./host-key.ts";

/** What ssh2 is, once it is loaded: half a megabyte that only those who have such an executor should pay for. */
type Ssh2 = typeof import("ssh2");

let loading: Promise<Ssh2> | null = null;
function loadSsh2(): Promise<Ssh2> {
  // As CommonJS the library's names are on `default` under Node, and on the module itself in a bundle.
  loading ??= import("../../common/ssh2/ciphers.ts")
    .then(() => import("ssh2"))
    .then((module) => ("default" in module && isSsh2(module.default) ? module.default : module));
  return loading;
}

function isSsh2(value: unknown): value is Ssh2 {
  return typeof value === "object" && value !== null && "Client" in value;
}

/** The public half of a private key in OpenSSH's or PEM's form; nothing where it is none. */
export async function publicKeyOf(content: Buffer): Promise<Buffer[]> {
  const { utils } = await loadSsh2();
  const parsed = utils.parseKey(content);
  return parsed instanceof Error ? [] : [parsed.getPublicSSH()];
}

/** A failure, and whether the host may just have been busy: then it is worth more patience than one that is away. */
export interface LoginFailure {
  readonly failure: SystemFailure;
  readonly busy: boolean;
}

/** ssh2 says where it failed: `handshake`, `client-authentication`, `client-socket`, `agent`. */
type LeveledError = Error & { readonly level?: string };

type LoginResult = { readonly client: Client; readonly unchecked: boolean } | LoginFailure;

/** Types of host keys in SSH's words for signatures. RSA keys sign in three ways. */
const ALGORITHMS: Readonly<Record<string, readonly ServerHostKeyAlgorithm[]>> = {
  "ssh-ed25519": ["ssh-ed25519"],
  "ecdsa-sha2-nistp256": ["ecdsa-sha2-nistp256"],
  "ecdsa-sha2-nistp384": ["ecdsa-sha2-nistp384"],
  "ecdsa-sha2-nistp521": ["ecdsa-sha2-nistp521"],
  "ssh-rsa": ["rsa-sha2-512", "rsa-sha2-256", "ssh-rsa"],
};

/** Known types first, so that a host with several keys shows the one that is known. */
function algorithmsFor(knownTypes: readonly string[]): ServerHostKeyAlgorithm[] {
  const known = knownTypes.flatMap((type) => ALGORITHMS[type] ?? []);
  return [...new Set([...known, ...Object.values(ALGORITHMS).flat()])];
}

/**
 * The cipher that no processor has instructions for comes last, whatever the runtime: 25 to 100 MB/s where AES has hundreds.
 * ssh2 goes through these words in their order.
 */
const CIPHERS = { remove: [CHACHA], prepend: [], append: [CHACHA] } satisfies AlgorithmList<CipherAlgorithm>;

/** ssh2 ends a connection after that many unanswered questions; here `keep-alive.ts` decides that instead. */
const NEVER_ENOUGH = 2 ** 31;

/** All that can be had before the first packet, so that nothing waits once there is a connection. */
export interface Credentials {
  readonly ssh2: Ssh2;
  readonly authentication: Authentication;
  readonly hostKey: HostKeyCheck;
}

/** @throws {SystemFailure} a key or a file of known hosts that cannot be used */
export async function readCredentials(target: SshHost): Promise<Credentials> {
  const ssh2 = await loadSsh2();
  const [authentication, hostKey] = await Promise.all([
    openAuthentication(target, ssh2.utils.parseKey),
    openHostKeyCheck(target),
  ]);
  return { ssh2, authentication, hostKey };
}

/**
 * Speak SSH over `line` until the login has succeeded. The line is destroyed where it has not.
 * @param signal its reason is what is thrown when it fires
 */
export async function logIn(
  target: SshHost,
  { ssh2, authentication, hostKey }: Credentials,
  line: Duplex,
  { name, keepAliveMs }: { readonly name: string; readonly keepAliveMs: number },
  signal: AbortSignal,
): Promise<LoginResult> {
  line.on("error", () => {});
  const client = new ssh2.Client();
  let refused: SystemFailure | null = null;
  let greeting = "";
  let shaken = false;
  const refuse = (message: string): void => {
    refused ??= new SystemFailure(message, { reason: "runner_configuration_error" });
  };
  const config: ConnectConfig = {
    sock: line,
    username: target.user,
    readyTimeout: 0,
    keepaliveInterval: keepAliveMs,
    keepaliveCountMax: NEVER_ENOUGH,
    algorithms: { serverHostKey: algorithmsFor(hostKey.knownTypes), cipher: CIPHERS },
    hostVerifier: (key: Buffer) => {
      const complaint = hostKey.complaint(key);
      if (complaint !== null) refuse(complaint);
      return complaint === null;
    },
    authHandler: (left: readonly string[] | null, partial: boolean | null, next) => {
      const method = authentication.next(left, partial);
      if (method !== false) return next(method);
      refuse(`Cannot log in to ${name}: ${authentication.failure()} Check ${(target.words ?? SSH_WORDS).login}`);
      line.destroy();
    },
  };

  let onAbort: (() => void) | null = null;
  try {
    return await new Promise<LoginResult>((resolve, reject) => {
      let lastError: LeveledError | null = null;
      const fail = (): void => {
        if (refused !== null) {
          resolve({ failure: refused, busy: false });
          return;
        }
        const why = lastError === null ? "the host closed the connection" : describeError(lastError);
        const said = greeting === "" ? "" : ` (it said: ${greeting})`;
        const when = shaken ? "while logging in" : "before SSH was spoken";
        // What both can speak, and who the host is, will be the same the next time.
        const hopeless = lastError?.level === "handshake";
        resolve({
          failure: new SystemFailure(`Cannot log in to ${name}: ${why} ${when}${said}`, {
            retry: !hopeless,
            reason: "runner_external_dependency_failure",
          }),
          busy: !shaken && !hopeless,
        });
      };
      onAbort = () => reject(signal.reason);
      if (signal.aborted) return onAbort();
      signal.addEventListener("abort", onAbort, { once: true });
      client.on("error", (error: LeveledError) => {
        // An agent that is away or refuses is one method less; ssh2 goes on by itself.
        if (error.level === "agent") return;
        lastError ??= error;
        // After its own protocol errors ssh2 waits for the other side to hang up.
        line.destroy();
      });
      client.on("greeting", (text: string) => {
        greeting = text
          .replace(/[^\x20-\x7e]+/g, " ")
          .trim()
          .slice(0, 200);
      });
      client.on("handshake", () => {
        shaken = true;
      });
      client.on("change password", () => {
        refuse(`Cannot log in to ${name}: the password has expired, and the host wants a new one. Change it there`);
        line.destroy();
      });
      client.once("close", fail);
      client.once("ready", () => {
        client.removeListener("close", fail);
        resolve({ client, unchecked: hostKey.unchecked });
      });
      // A line that is closed already tells nobody any more.
      if (line.destroyed) fail();
      else client.connect(config);
    });
  } catch (error) {
    client.on("error", () => {});
    line.destroy();
    throw error;
  } finally {
    if (onAbort !== null) signal.removeEventListener("abort", onAbort);
  }
}
