import { type ChildProcess, execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import type Docker from "dockerode";
import { freePort } from "./free-port.ts";

/** A registry with a password, Debian's docker-registry. */
export interface TestRegistry {
  /** `127.0.0.1:41237`, where engines take plain HTTP; with TLS an address of this machine's network. */
  readonly address: string;
  readonly username: string;
  readonly password: string;
  /** The certificate that an engine would have to trust; `null` without TLS. */
  readonly caFile: string | null;
  /** Puts an image of the engine into the registry, as `ADDRESS/name`. */
  push(docker: Docker, image: string, name: string): Promise<string>;
  close(): Promise<void>;
}

const PROGRAM = "/usr/bin/docker-registry";
const USERNAME = "tester";
const PASSWORD = "registry-password";
/** The entry for `PASSWORD`; bcrypt with the fewest rounds. */
const HTPASSWD = `${USERNAME}:$2y$04$lOHGePbtrZayTc21pVtH8eEGZi2DcrvqOowq07CqAQBaU6MINBRUa\n`;

/** Why there can be no registry here; `null` where there can. With CI=true a missing one is a failure. */
export function registryMissing(): string | null {
  if (existsSync(PROGRAM)) return null;
  if (process.env.CI === "true") throw new Error(`no ${PROGRAM}: run scripts/setup-tests.sh`);
  return "no docker-registry (Debian: docker-registry)";
}

export interface RegistryOptions {
  readonly tls?: boolean;
  /** Address to listen on instead of loopback. */
  readonly host?: string;
  /** Lets everybody in, without a password. */
  readonly open?: boolean;
}

export async function startRegistry(options: RegistryOptions = {}): Promise<TestRegistry> {
  const dir = await mkdtemp(join(tmpdir(), "alloy-registry-"));
  const host = options.host ?? (options.tls === true ? outsideAddress() : "127.0.0.1");
  const port = await freePort(host);
  await writeFile(join(dir, "htpasswd"), HTPASSWD);
  let tls = "";
  if (options.tls === true) {
    await promisify(execFile)("openssl", [
      ..."req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=registry".split(" "),
      ...["-addext", `subjectAltName=IP:${host}`, "-keyout", join(dir, "key.pem"), "-out", join(dir, "cert.pem")],
    ]);
    tls = `  tls:\n    certificate: ${dir}/cert.pem\n    key: ${dir}/key.pem\n`;
  }
  const auth = `auth:\n  htpasswd:\n    realm: test\n    path: ${dir}/htpasswd\n`;
  await writeFile(
    join(dir, "config.yml"),
    `version: 0.1
log:
  level: info
storage:
  filesystem:
    rootdirectory: ${dir}/data
http:
  addr: ${host}:${port}
${tls}${options.open === true ? "" : auth}`,
  );
  const child = spawn(PROGRAM, ["serve", join(dir, "config.yml")], { stdio: ["ignore", "ignore", "pipe"] });
  await listening(child);
  const address = `${host}:${port}`;
  return {
    address,
    username: USERNAME,
    password: PASSWORD,
    caFile: options.tls === true ? join(dir, "cert.pem") : null,
    async push(docker, image, name) {
      const [repository = "", tag = "latest"] = name.split(":");
      const repo = `${address}/${repository}`;
      await docker.getImage(image).tag({ repo, tag });
      const authconfig = { username: USERNAME, password: PASSWORD, serveraddress: address };
      const answer = await docker.getImage(repo).push({ tag, authconfig });
      let said = "";
      for await (const chunk of answer) said += String(chunk);
      if (/"error/.test(said)) throw new Error(`cannot push ${repo}:${tag}: ${said}`);
      await docker.getImage(`${repo}:${tag}`).remove();
      return `${repo}:${tag}`;
    },
    async close() {
      const ended = new Promise((resolve) => child.once("close", resolve));
      if (child.exitCode === null && child.signalCode === null) {
        child.kill("SIGKILL");
        await ended;
      }
      await rm(dir, { recursive: true, force: true });
    },
  };
}

async function listening(child: ChildProcess): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    let said = "";
    child.stderr?.on("data", (chunk: Buffer) => {
      said += chunk.toString();
      if (/listening on/.test(said)) resolve();
    });
    child.once("close", () => reject(new Error(`docker-registry ended: ${said}`)));
    child.once("error", reject);
  });
}

/** An address beyond loopback, because engines use no TLS over loopback. */
function outsideAddress(): string {
  for (const addresses of Object.values(networkInterfaces())) {
    for (const { family, internal, address } of addresses ?? []) if (family === "IPv4" && !internal) return address;
  }
  return "127.0.0.1";
}
