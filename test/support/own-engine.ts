import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { dockerAt } from "./docker.ts";

export const isRoot = process.geteuid?.() === 0;
export const hasDockerd = spawnSync("sh", ["-c", "command -v dockerd"]).status === 0;
const ROOM_BYTES = 400 * 1024 * 1024;

/** An engine for this test alone, with little room for its data, which the test may stop, freeze and kill. */
export interface OwnEngine {
  readonly dir: string;
  readonly host: string;
  /** The same engine with TLS. */
  readonly tcp: string;
  readonly data: string;
  start(): Promise<void>;
  signal(signal: NodeJS.Signals): void;
  /**
   * Resolves once the engine has ended.
   * @returns once it has ended
   */
  stop(signal: NodeJS.Signals): Promise<void>;
  dispose(): Promise<void>;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  return typeof address === "object" && address !== null ? address.port : 0;
}

/** Makes an authority, and by it a certificate for 127.0.0.1 and one for the runner. */
function makeCertificates(dir: string): void {
  mkdirSync(dir);
  const openssl = (...args: string[]): void => void execFileSync("openssl", args, { cwd: dir, stdio: "ignore" });
  const key = ["-newkey", "rsa:2048", "-nodes"];
  openssl(
    "req",
    "-x509",
    ...key,
    "-days",
    "2",
    "-subj",
    "/CN=test authority",
    "-keyout",
    "ca-key.pem",
    "-out",
    "ca.pem",
  );
  for (const [name, extensions] of [
    ["server", "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth"],
    ["client", "extendedKeyUsage=clientAuth"],
  ]) {
    openssl("req", ...key, "-subj", `/CN=${name}`, "-keyout", `${name}-key.pem`, "-out", `${name}.csr`);
    writeFileSync(join(dir, `${name}.ext`), extensions ?? "");
    const ca = ["-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial"];
    openssl(
      "x509",
      "-req",
      "-days",
      "2",
      "-in",
      `${name}.csr`,
      ...ca,
      "-extfile",
      `${name}.ext`,
      "-out",
      `${name}.pem`,
    );
  }
  execFileSync("sh", ["-c", "cp client.pem cert.pem; cp client-key.pem key.pem"], { cwd: dir });
}

function cmdlines(): string[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => `/proc/${pid}/cmdline`);
}

/** @param more options of the daemon's */
export async function ownEngine(...more: readonly string[]): Promise<OwnEngine> {
  const dir = mkdtempSync(join(tmpdir(), "alloy-engine-"));
  const [socket, data, tls] = [join(dir, "docker.sock"), join(dir, "data"), join(dir, "tls")];
  const address = `127.0.0.1:${await freePort()}`;
  makeCertificates(tls);
  mkdirSync(data);
  // The engine has a bridge of its own; it would remove the one of the engine that other tests use.
  const bridge = `alloy${process.pid}`;
  execFileSync("ip", ["link", "add", bridge, "type", "bridge"]);
  execFileSync("mount", ["-t", "tmpfs", "-o", `size=${ROOM_BYTES}`, "tmpfs", data]);
  let daemon: ChildProcess | null = null;
  const stop = async (signal: NodeJS.Signals): Promise<void> => {
    const ending = daemon;
    daemon = null;
    if (ending === null || ending.exitCode !== null) return;
    const ended = once(ending, "exit");
    const containerd = readFileSync(join(dir, "exec/containerd/containerd.pid"), "utf8").trim();
    ending.kill(signal);
    await ended;
    // containerd dies with its parent. The next daemon would wait for it as long as it is a zombie.
    while (existsSync(`/proc/${containerd}`)) await wait(50);
  };
  return {
    dir,
    host: `unix://${socket}`,
    tcp: `tcp://${address}`,
    data,
    start: async () => {
      rmSync(join(dir, "pid"), { force: true });
      const places = ["--data-root", data, "--exec-root", join(dir, "exec"), "--pidfile", join(dir, "pid")];
      const nets = ["--bridge", bridge, "--iptables=false", "--default-address-pool", "base=10.214.0.0/16,size=24"];
      const pem = (name: string): string => join(tls, `${name}.pem`);
      const hosts = ["--host", `unix://${socket}`, "--host", `tcp://${address}`, "--tlsverify"];
      const keys = ["--tlscacert", pem("ca"), "--tlscert", pem("server"), "--tlskey", pem("server-key")];
      const words = openSync(join(dir, "log"), "w");
      daemon = spawn("dockerd", [...places, ...nets, ...hosts, ...keys, ...more], { stdio: ["ignore", words, words] });
      closeSync(words);
      const docker = dockerAt(`unix://${socket}`);
      const answers = async (): Promise<boolean> =>
        await docker.ping().then(
          () => true,
          () => false,
        );
      while (!(await answers())) {
        if (daemon.exitCode !== null) {
          throw new Error(`dockerd does not start:\n${readFileSync(join(dir, "log"), "utf8").slice(-2000)}`);
        }
        await wait(100);
      }
    },
    signal: (signal) => void daemon?.kill(signal),
    stop,
    dispose: async () => {
      daemon?.kill("SIGCONT");
      await stop("SIGTERM");
      // Processes that are left of a daemon that could not be started again.
      const own = spawnSync("grep", ["-lsaF", `${dir}/`, ...cmdlines()], { encoding: "utf8" }).stdout;
      for (const [pid] of own.matchAll(/\d+/g)) if (Number(pid) !== process.pid) spawnSync("kill", ["-KILL", pid]);
      const mounts = execFileSync("cat", ["/proc/self/mounts"], { encoding: "utf8" }).split("\n");
      for (const line of mounts.reverse()) {
        const place = line.split(" ")[1] ?? "";
        if (place.startsWith(`${dir}/`)) spawnSync("umount", ["-l", place]);
      }
      spawnSync("ip", ["link", "del", bridge]);
      rmSync(dir, { recursive: true, force: true });
    },
  };
}
