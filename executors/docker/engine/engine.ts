import { AsyncLocalStorage } from "node:async_hooks";
import { stat } from "node:fs/promises";
import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import { isAbsolute } from "node:path";
import type Docker from "dockerode";
import { z } from "zod";
import { describeError, Stop, SystemFailure } from "../../../src/errors.ts";
import type { JobLocation } from "../../../src/executor/environment.ts";
import { deadline, unlessAborted } from "../../../src/time.ts";
import type { ConnectionSettings } from "../settings/settings.ts";
import { type ComplaintKind, complaintKind } from "./complaint.ts";
import { boundAnswers, DaemonError } from "./dial.ts";
import { type Endpoint, findEndpoint, locationOf } from "./endpoint.ts";
import { openSshSocket } from "./ssh-socket.ts";

/**
 * Newest version of the API that this program was tested with, and the oldest that has all it needs (`next-exit`, flushed
 * headers of `wait`: Docker 17.04).
 */
const NEWEST_TESTED = [1, 51] as const;
const OLDEST_USABLE = [1, 30] as const;

/** How long the daemon may take for a call that has no long work to do. A busy one takes seconds to create a container. */
const CALL_LIMIT_MS = 120_000;
const CONNECT_LIMIT_MS = 30_000;

/** A container engine: Docker, or Podman's service, that answers. */
export interface Engine {
  /** The library, speaking `apiVersion`. Its calls go through `call`, which bounds and explains them. */
  readonly docker: Docker;
  /** Host of the daemon, for people: `unix:///run/docker.sock`, `tcp://build-07:2376`. */
  readonly address: string;
  /** `1.41` */
  readonly apiVersion: string;
  /** `Docker 20.10.24` or `Podman 4.3.1`. */
  readonly product: string;
  readonly podman: boolean;
  /** `linux` or `windows`. */
  readonly os: string;
  /** In Go's words: `amd64`, `arm64`. */
  readonly architecture: string;
  /** Host name of the daemon's machine, or its address. */
  readonly hostName: string;
  /** Whether the daemon works on this machine, so that addresses of its bridges can be reached from here. */
  readonly local: boolean;
  /** Where it keeps images, containers and volumes, if that is a directory of this machine. */
  readonly rootDir: string | null;
  /** Whose network its containers are in. */
  readonly location: JobLocation;
  /**
   * One question to the daemon. `what` completes "Cannot …": `create the container of the build`.
   * @param body is given the signal for streams that live on after the answer (`abortSignal`); answers need none
   * @param limitMs how long the daemon may take until it answers; what streams afterwards is not limited
   * @throws {EngineFailure} the daemon said no, or could not be asked; `retry` tells which may go away
   * @throws the signal's reason, once it has fired
   */
  call<T>(
    what: string,
    body: (docker: Docker, signal: AbortSignal) => Promise<T>,
    signal: AbortSignal,
    limitMs?: number,
  ): Promise<T>;
  /** Lets go of connections. Safe more than once. */
  close(): Promise<void>;
}

/** What the daemon answered to a question, or why there was no answer. */
export class EngineFailure extends SystemFailure {
  /** HTTP status; 0: there was no answer. */
  readonly status: number;
  readonly complaint: ComplaintKind;
  constructor(message: string, options: { status: number; complaint: ComplaintKind; retry: boolean; cause?: unknown }) {
    super(message, options);
    this.status = options.status;
    this.complaint = options.complaint;
  }
}

/** Is this the daemon's word that the thing does not exist (any more)? */
export function isGone(error: unknown): boolean {
  return error instanceof EngineFailure && error.status === 404;
}

const versionSchema = z.object({
  Version: z.string().default("?"),
  ApiVersion: z.string().optional(),
  MinAPIVersion: z.string().optional(),
  Os: z.string().default("linux"),
  Arch: z.string().default("amd64"),
  Components: z.array(z.object({ Name: z.string().default(""), Version: z.string().optional() })).nullish(),
});
const infoSchema = z.object({ Name: z.string().default(""), DockerRootDir: z.string().default("") });

interface EngineOptions {
  readonly settings: ConnectionSettings;
  /** The runner's own environment: `DOCKER_HOST` and its kin count where `host` is empty. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Private directory, for the socket of an engine behind SSH. */
  readonly scratchDir: string;
}

/**
 * Reach the engine and agree on a version of its API.
 * @throws {SystemFailure} it does not answer (worth a retry), its certificates cannot be read, or it is too old or too new
 */
export async function connectEngine(options: EngineOptions, signal: AbortSignal): Promise<Engine> {
  const endpoint = await findEndpoint(options.settings, options.env);
  const tunnel = endpoint.kind === "ssh" ? await openSshSocket(endpoint, options.scratchDir) : null;
  const agent = agentOf(endpoint);
  const close = async (): Promise<void> => {
    agent.destroy();
    await tunnel?.close();
  };
  try {
    // It brings ssh2 along, which an executor over SSH may need later on.
    await import("../../common/ssh2/ciphers.ts");
    const { default: Library } = await import("dockerode");
    const current = new AsyncLocalStorage<AbortSignal>();
    const open = (version: string | undefined): Docker => {
      const docker = new Library(libraryOptions(endpoint, tunnel?.path, agent, version));
      boundAnswers(docker.modem, () => current.getStore());
      return docker;
    };
    const trouble = (): string => tunnel?.complaint() ?? "";
    const first = open(undefined);
    const ask = asker(first, endpoint, current, trouble);
    const found = versionSchema.safeParse(
      await ask("ask for its version", (docker) => docker.version(), signal, CONNECT_LIMIT_MS),
    );
    if (!found.success) {
      throw new SystemFailure(
        `What answers at ${endpoint.address} is no Docker engine. Check host in [runners.docker]`,
      );
    }
    const { data } = found;
    const apiVersion = agreeOnVersion(data.ApiVersion, data.MinAPIVersion, endpoint.address);
    const docker = open(`v${apiVersion}`);
    const call = asker(docker, endpoint, current, trouble);
    const info = infoSchema.safeParse(await call("ask for its name", (each) => each.info(), signal, CONNECT_LIMIT_MS));
    const rootDir = info.success && endpoint.local ? info.data.DockerRootDir : "";
    // A machine of Docker Desktop's, or a container around this program, has other directories.
    const isHere = isAbsolute(rootDir) && (await stat(rootDir).catch(() => null))?.isDirectory() === true;
    const podman = data.Components?.find(({ Name }) => /podman/i.test(Name));
    const product = podman === undefined ? `Docker ${data.Version}` : `Podman ${podman.Version ?? data.Version}`;
    return {
      docker,
      address: endpoint.address,
      apiVersion,
      product,
      podman: podman !== undefined,
      os: data.Os.toLowerCase(),
      architecture: data.Arch,
      hostName: info.success && info.data.Name !== "" ? info.data.Name : endpoint.address,
      local: endpoint.local,
      rootDir: isHere ? rootDir : null,
      location: locationOf(options.settings, options.env),
      call,
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

type Call = Engine["call"];

function asker(
  docker: Docker,
  endpoint: Endpoint,
  current: AsyncLocalStorage<AbortSignal>,
  trouble: () => string,
): Call {
  return async (what, body, signal, limitMs = CALL_LIMIT_MS) => {
    signal.throwIfAborted();
    const late = new Stop("timed_out", `no answer within ${limitMs / 1000} s`);
    using limit = deadline(signal, limitMs, late);
    const asked = current.run(limit.signal, () => body(docker, signal));
    try {
      return await unlessAborted(asked, limit.signal);
    } catch (error) {
      signal.throwIfAborted();
      throw explain(what, error, endpoint, trouble());
    }
  };
}

function explain(what: string, error: unknown, endpoint: Endpoint, trouble: string): SystemFailure {
  if (error instanceof SystemFailure) return error;
  if (error instanceof DaemonError) {
    const { status } = error;
    // 500 is Docker's word for all that went wrong inside, a full disk as well as a busy device.
    return new EngineFailure(`Cannot ${what}: ${error.message}`, {
      status,
      complaint: complaintKind(error.message),
      retry: status >= 500,
      cause: error,
    });
  }
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  const hint = HINTS[code] ?? "";
  const said = [describeError(error), trouble].filter((part) => part !== "").join(": ");
  return new EngineFailure(
    `Cannot ${what}: the container engine at ${endpoint.address} does not answer (${said})${hint}`,
    {
      status: 0,
      complaint: "other",
      retry: true,
      cause: error,
    },
  );
}

const HINTS: Readonly<Record<string, string>> = {
  ENOENT: ". Is it running? Is host in [runners.docker] right?",
  ECONNREFUSED: ". Is it running? Is host in [runners.docker] right?",
  EACCES: ". The runner's account may not use it: add it to the group docker, or run as root",
  EPERM: ". The runner's account may not use it: add it to the group docker, or run as root",
  ENOTFOUND: ". Check host in [runners.docker]",
  CERT_HAS_EXPIRED: ". Renew the daemon's certificate",
  ERR_TLS_CERT_ALTNAME_INVALID: ". Its certificate is for another name than host in [runners.docker] says",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: ". ca.pem in tls_cert_path must be the authority that signed its certificate",
  SELF_SIGNED_CERT_IN_CHAIN: ". ca.pem in tls_cert_path must be the authority that signed its certificate",
  DEPTH_ZERO_SELF_SIGNED_CERT: ". ca.pem in tls_cert_path must be the authority that signed its certificate",
  EPROTO: ". Does it speak TLS? See tls_verify in [runners.docker]",
};

function agentOf(endpoint: Endpoint): HttpAgent | HttpsAgent {
  // A kept connection can be closed by a restarted daemon just when it is used, and connecting to a socket costs nothing.
  if (!endpoint.local && endpoint.kind !== "tcp") return new HttpAgent({ keepAlive: true, timeout: 60_000 });
  if (endpoint.kind === "tcp" && endpoint.tls !== null) return new HttpsAgent({ keepAlive: true, timeout: 60_000 });
  return new HttpAgent({ keepAlive: false });
}

/** All options are given, also empty ones: those that are left out the library takes from the environment. */
function libraryOptions(
  endpoint: Endpoint,
  socketPath: string | undefined,
  agent: HttpAgent | HttpsAgent,
  version: string | undefined,
): Docker.DockerOptions {
  const none = {
    host: undefined,
    port: undefined,
    socketPath: undefined,
    ca: undefined,
    cert: undefined,
    key: undefined,
  };
  const common = { ...none, protocol: "http" as const, timeout: undefined, version, agent, headers: {} };
  if (endpoint.kind === "socket") return { ...common, socketPath: endpoint.path };
  if (endpoint.kind === "ssh") return { ...common, socketPath };
  const { host, port, tls } = endpoint;
  return { ...common, host, port, ...(tls === null ? {} : { protocol: "https" as const, ...tls }) };
}

type Version = readonly [major: number, minor: number];

function parseVersion(text: string | undefined): Version | null {
  const [, major, minor] = /^v?(\d{1,4})\.(\d{1,6})$/.exec(text ?? "") ?? [];
  return major === undefined || minor === undefined ? null : [Number(major), Number(minor)];
}

const later = ([a, b]: Version, [c, d]: Version): boolean => a > c || (a === c && b > d);
const show = ([major, minor]: Version): string => `${major}.${minor}`;

/** The newest version that both sides know. */
export function agreeOnVersion(newest: string | undefined, oldest: string | undefined, address: string): string {
  const theirs = parseVersion(newest);
  if (theirs === null) {
    throw new SystemFailure(`What answers at ${address} is no Docker engine: it names no API version`);
  }
  if (later(OLDEST_USABLE, theirs)) {
    throw new SystemFailure(
      `The container engine at ${address} is too old: it speaks API ${show(theirs)}, needed is ${show(OLDEST_USABLE)} (Docker 17.06)`,
    );
  }
  const least = parseVersion(oldest);
  if (least !== null && later(least, NEWEST_TESTED)) {
    throw new SystemFailure(
      `The container engine at ${address} is too new for this runner: it speaks API ${show(least)} or later, the runner up to ${show(NEWEST_TESTED)}. Update the runner`,
    );
  }
  return show(later(theirs, NEWEST_TESTED) ? NEWEST_TESTED : theirs);
}
