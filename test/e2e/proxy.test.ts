import { readFileSync } from "node:fs";
import { copyFile, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type LocalCoordinator, startCoordinator } from "../../src/local/coordinator/coordinator.ts";
import { createAuthority } from "../coordinator/server.ts";
import { emptyHome, runProgram, start } from "../support/program.ts";
import { startProxy, type TestProxy } from "../support/proxy.ts";
import { isRoot } from "../support/sshd.ts";
import { ACCESS_KEY, openS3, SECRET_KEY } from "../transfer/s3-server.ts";

/** These names can be reached only through the proxy. */
const COORDINATOR = "coordinator.example";
const BUCKET = "bucket.example";
const LOGIN = "ci:pa:ss@word/1";
const inUrl = LOGIN.split(":").map((part) => encodeURIComponent(part));
const encodedLogin = `${inUrl[0]}:${inUrl.slice(1).join("%3A")}`;

let keys: { readonly key: string; readonly cert: string };
let authority: ReturnType<typeof createAuthority>;
let keysDir: string;
beforeAll(async () => {
  keysDir = await mkdtemp(join(tmpdir(), "alloy-proxy-"));
  authority = createAuthority(keysDir);
  const leaf = authority.sign("leaf", `DNS:${COORDINATOR},DNS:${BUCKET}`);
  keys = { key: readFileSync(leaf.key, "utf8"), cert: readFileSync(leaf.cert, "utf8") };
});
afterAll(async () => await rm(keysDir, { recursive: true, force: true }));

let home: Awaited<ReturnType<typeof emptyHome>>;
let coordinator: LocalCoordinator;
let config: string;
const undo: (() => unknown)[] = [];
beforeEach(async () => {
  home = await emptyHome();
  coordinator = await startCoordinator({ dialect: "gitlab", tls: keys, host: "127.0.0.1" });
  config = join(home.dir, "config.toml");
  await mkdir(join(home.dir, "certs"));
  for (const host of [COORDINATOR, BUCKET]) await copyFile(authority.file, join(home.dir, "certs", `${host}.crt`));
});
afterEach(async () => {
  for (const one of undo.splice(0).reverse()) await one();
  await coordinator.close();
  await home.dispose();
});

const portOf = (url: string | URL): number => Number(new URL(url).port);

async function proxyTo(places: Readonly<Record<string, number>>, login?: string): Promise<TestProxy> {
  const proxy = await startProxy({ places, ...(login === undefined ? {} : { login }) });
  undo.push(() => proxy.close());
  return proxy;
}

const registerArgs = (url: string): string[] => {
  const flags = ["--url", url, "--registration-token", coordinator.registrationToken, "--executor", "shell"];
  return ["register", "--non-interactive", "--config", config, "--name", "far", ...flags];
};

describe.each(["binary", "node"] as const)("the built program as %s, with a proxy", { timeout: 90_000 }, (runtime) => {
  test("reaches an HTTPS coordinator and a bucket: register, verify, jobs with artifacts and a cache", async () => {
    const s3 = await openS3(keys);
    const places = { [`${COORDINATOR}:443`]: portOf(coordinator.url), [`${BUCKET}:443`]: portOf(s3.endpoint) };
    const proxy = await proxyTo(places, LOGIN);
    const around = { home: home.dir, runtime, env: { https_proxy: `http://${encodedLogin}@${proxy.host}` } };
    const registered = await runProgram(registerArgs(`https://${COORDINATOR}`), around);
    expect(registered.code, registered.stderr).toBe(0);
    const verified = await runProgram(["verify", "--config", config], around);
    expect([verified.code, verified.stdout], verified.stderr).toEqual([0, expect.stringContaining("is alive")]);
    const bucket = `[runners.cache]\nType = "s3"\n[runners.cache.s3]\nServerAddress = "${BUCKET}"\nAccessKey = "${ACCESS_KEY}"\nSecretKey = "${SECRET_KEY}"\nBucketName = "caches"\nPathStyle = true\n`;
    await writeFile(config, `state_dir = "${home.dir}/state"\n${readFileSync(config, "utf8")}\n${bucket}`);
    const common = { cache: { key: "node", paths: ["kept/"] }, variables: { GIT_STRATEGY: "none" } };
    const first = coordinator.enqueue({
      ...common,
      script: ["mkdir kept out; head -c 300000 /dev/urandom | tee kept/a > out/a; cksum < out/a"],
      artifacts: { paths: ["out/"] },
    });
    const second = coordinator.enqueue({
      ...common,
      script: ["cksum < out/a; cksum < kept/a"],
      dependencies: [first],
    });
    const runner = start(["run", "--config", config, "--working-directory", home.dir], around);
    undo.push(() => runner.stop());
    for (const job of [first, second]) {
      await job.finished();
      expect(job.status, job.trace).toBe("success");
    }
    const sum = /^\d+ 300000/m.exec(first.trace)?.[0] ?? "none";
    expect(second.trace.split(sum)).toHaveLength(3);
    expect(second.trace).toContain("Successfully restored cache node");
    expect(new Set(proxy.asked)).toEqual(new Set([`CONNECT ${COORDINATOR}:443 200`, `CONNECT ${BUCKET}:443 200`]));
    for (const text of [registered.stderr, runner.stderr(), first.trace, second.trace]) {
      expect(text).not.toMatch(/pa:ss|pa%3A|Basic /);
    }
  });

  test("reaches a coordinator of plain HTTP, too", async () => {
    const plain = await startCoordinator({ dialect: "alloy", host: "127.0.0.1" });
    undo.push(() => plain.close());
    const proxy = await proxyTo({ [`${COORDINATOR}:80`]: portOf(plain.url) }, LOGIN);
    const { token } = plain.addRunner();
    await writeFile(
      config,
      `[[runners]]\nname = "far"\nurl = "http://${COORDINATOR}"\ntoken = "${token}"\nexecutor = "shell"\n`,
      { mode: 0o600 },
    );
    const env = { HTTP_PROXY: `http://${encodedLogin}@${proxy.host}` };
    const verified = await runProgram(["verify", "--config", config], { home: home.dir, runtime, env });
    expect([verified.code, verified.stdout], verified.stderr).toEqual([0, expect.stringContaining("is alive")]);
    expect(proxy.asked).toEqual([`POST http://${COORDINATOR}/api/v4/runners/verify 200`]);
  });

  test.each([
    ["https", "HTTPS_PROXY", ""],
    ["https", "https_proxy", "ci:wrong@"],
    ["http", "http_proxy", ""],
    ["http", "HTTP_PROXY", "ci:wrong@"],
  ])("a login for %s in %s that is %j is said in a sentence", async (scheme, variable, login) => {
    const proxy = await proxyTo({ [`${COORDINATOR}:443`]: portOf(coordinator.url) }, LOGIN);
    const env = { [variable]: `http://${login}${proxy.host}` };
    const refused = await runProgram(registerArgs(`${scheme}://${COORDINATOR}`), { home: home.dir, runtime, env });
    expect(refused.code).toBe(1);
    const problem =
      login === ""
        ? `it wants a user and a password (407): write them into ${variable}`
        : `it does not accept the user and password in ${variable} (407)`;
    expect(refused.stderr).toContain(`proxy http://${proxy.host}: ${problem}`);
    expect(refused.stderr).not.toContain("wrong");
    expect(coordinator.requests).toHaveLength(0);
  });

  test.runIf(isRoot && process.platform === "linux").for([
    ["NO_PROXY", "other.example, coordinator.example", true],
    ["no_proxy", "COORDINATOR.EXAMPLE", true],
    ["NO_PROXY", ".example", true],
    ["no_proxy", "example", true],
    ["NO_PROXY", "*.example", true],
    ["NO_PROXY", "coordinator.example:PORT", true],
    ["no_proxy", "*", true],
    ["NO_PROXY", "coordinator.example:1", false],
    ["no_proxy", "ordinator.example", false],
  ] as const)("%s=%s: goes past the proxy: %s", async ([variable, list, past]) => {
    const port = portOf(coordinator.url);
    const proxy = await proxyTo({ [`${COORDINATOR}:${port}`]: port });
    const hosts = join(home.dir, "hosts");
    await writeFile(hosts, `127.0.0.1 localhost ${COORDINATOR}\n`);
    const named = ["unshare", "-m", "sh", "-c", `mount --bind ${hosts} /etc/hosts && exec "$@"`, "sh"];
    const env = { HTTPS_PROXY: `http://${proxy.host}`, [variable]: list.replace("PORT", String(port)) };
    const url = `https://${COORDINATOR}:${port}`;
    const registered = await runProgram(registerArgs(url), { home: home.dir, runtime, env, under: named });
    expect(registered.code, registered.stderr).toBe(0);
    expect(proxy.asked).toEqual(past ? [] : [`CONNECT ${COORDINATOR}:${port} 200`]);
  });
});
