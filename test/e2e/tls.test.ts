import { execFileSync } from "node:child_process";
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startCoordinator } from "../../src/local/coordinator/coordinator.ts";
import { emptyHome, registering, runProgram, start } from "../support/program.ts";

let dir: string;

function openssl(...args: string[]): void {
  execFileSync("openssl", args, { cwd: dir, stdio: "ignore" });
}

/** A key and what is made with it: a request for a certificate or, by `-x509`, a certificate. */
function keyWith(name: string, ...more: string[]): void {
  openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", `${name}.key`, "-subj", `/CN=${name}`, ...more);
}

/** A CA of our own, a server's certificate for localhost, a client's certificate, and a CA that signed nothing. */
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "alloy-tls-"));
  for (const name of ["ca", "stranger"]) keyWith(name, "-x509", "-out", `${name}.pem`, "-days", "2");
  await writeFile(join(dir, "san"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n");
  for (const name of ["server", "client"]) {
    keyWith(name, "-out", `${name}.csr`);
    const signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "san"];
    openssl("x509", "-req", "-in", `${name}.csr`, "-out", `${name}.pem`, ...signed);
  }
});
afterAll(async () => {
  await rm(dir, { recursive: true, force: true });
});

const file = (name: string): Promise<string> => readFile(join(dir, name), "utf8");

async function secureCoordinator(requestCert = false) {
  const tls = { key: await file("server.key"), cert: await file("server.pem"), ca: await file("ca.pem"), requestCert };
  return await startCoordinator({ dialect: "alloy", tls, host: "127.0.0.1" });
}

describe("a coordinator with a certificate of its own CA", () => {
  test("is refused without the CA, by name and reason; jobs run with it, and get it as a file", async () => {
    const home = await emptyHome();
    const coordinator = await secureCoordinator();
    const config = join(home.dir, "config.toml");
    const args = registering({ config, url: coordinator.url, token: coordinator.registrationToken });
    try {
      for (const ca of [[], ["--tls-ca-file", join(dir, "stranger.pem")]]) {
        const refused = await runProgram([...args, ...ca], {
          home: home.dir,
          env: { NODE_TLS_REJECT_UNAUTHORIZED: "0" },
        });
        expect(refused.code).toBe(1);
        expect(refused.stderr).toMatch(/127\.0\.0\.1/);
        expect(refused.stderr).toMatch(/tls-ca-file/);
      }
      expect(coordinator.requests).toHaveLength(0);
      const accepted = await runProgram([...args, "--tls-ca-file", join(dir, "ca.pem")], { home: home.dir });
      expect(accepted.code, accepted.stderr).toBe(0);
      const job = coordinator.enqueue({
        script: ['cat "$CI_SERVER_TLS_CA_FILE"', 'stat -c %a "$CI_SERVER_TLS_CA_FILE"'],
      });
      const runner = start(["run", "-c", config], { home: home.dir });
      try {
        await job.reported();
        expect(job.status, job.trace).toBe("success");
        expect(job.trace).toContain((await file("ca.pem")).split("\n")[1]);
        expect(job.trace).toMatch(/^600$/m);
      } finally {
        await runner.stop();
      }
    } finally {
      await coordinator.close();
      await home.dispose();
    }
  });

  test("certificates are found by host name beside the configuration, client certificates too, and changes are taken up", async () => {
    const home = await emptyHome();
    const coordinator = await secureCoordinator(true);
    const config = join(home.dir, "config.toml");
    const certs = join(home.dir, "certs");
    await mkdir(certs);
    await copyFile(join(dir, "ca.pem"), join(certs, "127.0.0.1.crt"));
    const { token } = coordinator.addRunner();
    await writeFile(
      config,
      `state_dir = "${home.dir}/state"\n[[runners]]\nname = "tls"\nurl = "${coordinator.url}"\ntoken = "${token}"\nexecutor = "shell"\n`,
      { mode: 0o600 },
    );
    const job = coordinator.enqueue({ script: ["true"] });
    const runner = start(["run", "-c", config], { home: home.dir });
    try {
      await runner.seen(/TLS handshake was refused by 127\.0\.0\.1.*tls-cert-file is missing/);
      expect(job.status).toBe("pending");
      await copyFile(join(dir, "client.pem"), join(certs, "127.0.0.1.auth.crt"));
      await copyFile(join(dir, "client.key"), join(certs, "127.0.0.1.auth.key"));
      await job.reported({ timeoutMs: 60_000 });
      expect(job.status).toBe("success");
    } finally {
      await runner.stop();
      await coordinator.close();
      await home.dispose();
    }
  });
});
