import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer as createHttpServer } from "node:http";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer, type Server, type TLSSocket } from "node:tls";

/** The stand-in on PATH, with a store, a cloud, and engines over TLS at the addresses of its machines. */
export interface MachineStand {
  readonly dir: string;
  readonly store: string;
  /** For the runner. */
  readonly env: Readonly<Record<string, string>>;
  /** Machines that exist at the cloud. */
  machines(): string[];
  /** Names in docker-machine's store. */
  stored(): string[];
  /** Command lines so far, without global flags. */
  calls(): string[];
  /** Crash reports that would have been sent. */
  reports(): string[];
  /** Shell text in the middle of a command: `create` before its machine is at the cloud, `provision` after that. */
  on(command: "certs" | "create" | "provision" | "url" | "rm", text: string | null): void;
  /** A machine whose power is cut: nothing answers there any more, and what was connected is. */
  cut(name: string): void;
  /** A machine that somebody else has removed: docker-machine knows nothing of it, and what was connected stays open. */
  lose(name: string): void;
  /** All have power again. */
  mend(): void;
  readonly [Symbol.asyncDispose]: () => Promise<void>;
}

const here = import.meta.dirname;

export interface StandOptions {
  /** The socket of the engine that all machines have; by default one that only says that it is there. */
  readonly engine?: string;
  readonly addresses?: number;
  /** How docker-machine logs in to machines; by default it has no key. */
  readonly login?: { readonly user: string; readonly port: number; readonly identityFile: string };
}

/** Addresses that machines have. */
export function addressesOfMachines(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `127.1.0.${index + 1}`);
}

export async function openMachineStand({ engine, addresses = 20, login }: StandOptions = {}): Promise<MachineStand> {
  const dir = await mkdtemp(join(tmpdir(), "alloy-machines-"));
  const at = (...names: string[]): string => join(dir, ...names);
  for (const name of ["bin", "stand/machines", "store", "home"]) mkdirSync(at(name), { recursive: true });
  copyFileSync(join(here, "docker-machine"), at("bin/docker-machine"));
  chmodSync(at("bin/docker-machine"), 0o755);
  copyFileSync(join(here, "make-certs"), at("stand/make-certs"));
  mkdirSync(at("certs"));
  execFileSync("sh", [at("stand/make-certs"), at("certs")]);
  // A store without certificates gets these, so that the engines know them.
  writeFileSync(at("stand/make-certs"), `cp ${at("certs")}/*.pem "$1/"\n`);

  const plain = createHttpServer((_, response) => response.end("OK"));
  const socket = engine ?? at("engine.sock");
  if (engine === undefined) {
    plain.listen(socket);
    await once(plain, "listening");
  }
  const dead = new Set<string>();
  const open = new Set<Socket>();
  const serve = (client: TLSSocket): void => {
    const address = client.localAddress ?? "";
    const there = connect({ path: socket, allowHalfOpen: true });
    for (const one of [client, there]) {
      open.add(one);
      one.on("error", () => {});
      one.on("close", () => {
        open.delete(one);
        (one === client ? there : client).destroy();
      });
    }
    if (dead.has(address)) client.destroy();
    else client.pipe(there).pipe(client);
  };
  const pem = (name: string): Buffer => readFileSync(at("certs", name));
  const tls = {
    ca: pem("ca.pem"),
    cert: pem("server.pem"),
    key: pem("server-key.pem"),
    requestCert: true,
    rejectUnauthorized: true,
  };
  const servers: Server[] = [];
  let port = 0;
  for (const host of addressesOfMachines(addresses)) {
    const server = createServer({ ...tls, allowHalfOpen: true }, serve);
    server.on("tlsClientError", () => {});
    // Also one that never comes to speak TLS.
    server.on("connection", (raw: Socket) => {
      open.add(raw);
      raw.on("close", () => open.delete(raw));
    });
    server.listen(port, host);
    await once(server, "listening");
    const address = server.address();
    if (typeof address === "object" && address !== null) port = address.port;
    servers.push(server);
  }
  writeFileSync(at("stand/port"), String(port));
  writeFileSync(at("stand/addresses"), String(addresses));
  if (login !== undefined) {
    const { user, port: sshPort, identityFile } = login;
    writeFileSync(at("stand/login"), `, "SSHUser": "${user}", "SSHPort": ${sshPort}, "SSHKeyPath": "${identityFile}"`);
  }

  const lines = (name: string): string[] => {
    try {
      return readFileSync(at("stand", name), "utf8").split("\n").slice(0, -1);
    } catch {
      return [];
    }
  };
  const list = (path: string): string[] => {
    try {
      return readdirSync(path).sort();
    } catch {
      return [];
    }
  };
  return {
    dir,
    store: at("store"),
    env: {
      PATH: `${at("bin")}:${process.env.PATH}`,
      HOME: at("home"),
      MACHINE_STORAGE_PATH: at("store"),
      STAND_IN: at("stand"),
    },
    machines: () => list(at("stand/machines")),
    stored: () => list(at("store/machines")),
    calls: () => lines("calls"),
    reports: () => lines("reports"),
    on(command, text) {
      if (text === null) rmSync(at(`stand/on-${command}`), { force: true });
      else writeFileSync(at(`stand/on-${command}`), `${text}\n`);
    },
    cut(name) {
      const address = readFileSync(at("stand/machines", name), "utf8").trim();
      dead.add(address);
      for (const one of open) if (one.localAddress === address) one.destroy();
    },
    lose(name) {
      for (const place of ["stand", "store"]) rmSync(at(place, "machines", name), { recursive: true });
    },
    mend: () => dead.clear(),
    async [Symbol.asyncDispose]() {
      for (const one of open) one.destroy();
      await Promise.all([...servers, plain].map((server) => new Promise<void>((done) => server.close(() => done()))));
      await rm(dir, { recursive: true, force: true });
    },
  };
}
