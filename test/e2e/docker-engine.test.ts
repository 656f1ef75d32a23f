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
  statfsSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import type { LocalJob } from "../../src/local/coordinator/jobs/job.ts";
import { dockerAt, imageName } from "../support/docker.ts";
import { makeImages } from "../support/images.ts";
import { openSite, type Site, type SiteOptions } from "../support/site.ts";

const isRoot = process.geteuid?.() === 0;
const hasDockerd = spawnSync("sh", ["-c", "command -v dockerd"]).status === 0;
const ROOM_BYTES = 400 * 1024 * 1024;

/** An engine for this test alone, with little room for its data, which the test may stop, freeze and kill. */
interface OwnEngine {
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

async function ownEngine(): Promise<OwnEngine> {
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
      daemon = spawn("dockerd", [...places, ...nets, ...hosts, ...keys], { stdio: ["ignore", words, words] });
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

describe("an engine of the test's own", () => {
  if (isRoot && !hasDockerd && process.env.CI === "true") throw new Error("no dockerd: run scripts/setup-tests.sh");
  if (!isRoot || !hasDockerd) {
    test.skip("needs root and dockerd", () => {});
    return;
  }
  const TIMEOUT_MS = 300_000;
  let engine: OwnEngine;
  let site: Site;
  const options = (lines: string): SiteOptions => ({
    dialect: "gitlab",
    executor: "docker",
    entry: `[runners.docker]\nimage = "${imageName("git")}"\nhelper_image = "${imageName("git")}"\npull_policy = "never"\n${lines}`,
  });
  beforeAll(async () => {
    engine = await ownEngine();
    await engine.start();
    await makeImages(dockerAt(engine.host), `own-${process.pid}`, ["git"]);
    site = await openSite(options(`host = "${engine.host}"`));
  }, TIMEOUT_MS);
  afterAll(async () => {
    await site?.close();
    await engine?.dispose();
  }, TIMEOUT_MS);

  const reported = async (job: LocalJob) => await job.reported({ timeoutMs: 150_000 });
  const sleeping = async (): Promise<LocalJob> => {
    const job = site.coordinator.enqueue({ script: ["echo is-$((1+1))-ready; sleep 600"] });
    await job.traceContains("is-2-ready", { timeoutMs: 60_000 });
    return job;
  };
  const works = async (): Promise<void> => {
    const job = site.coordinator.enqueue({ script: ["echo works"] });
    expect((await reported(job)).state, job.trace).toBe("success");
  };
  const untilNothingIsLeft = async (): Promise<void> => {
    const docker = dockerAt(engine.host);
    const filters = { label: ["alloy-runner.job-key"] };
    const left = async () =>
      [...(await docker.listContainers({ all: true, filters })), ...(await docker.listNetworks({ filters }))].length;
    await expect.poll(left, { timeout: 90_000, interval: 300 }).toBe(0);
  };

  test(
    "that stops ends the job with its name, and the next job works once it is back",
    async () => {
      const job = await sleeping();
      await engine.stop("SIGTERM");
      expect(await reported(job)).toMatchObject({ state: "failed", failureReason: "runner_system_failure" });
      expect(job.trace).toMatch(/connection to the build container was lost|has ended with status|does not answer/);

      // Nobody answers at the engine's address: the job is tried again before it fails, and the error names that
      // address.
      const away = site.coordinator.enqueue({ script: ["true"] });
      expect(await reported(away)).toMatchObject({ state: "failed", failureReason: "runner_system_failure" });
      expect(away.trace).toContain(engine.host);
      expect(away.trace).toContain("try 2 of 3");

      await engine.start();
      await works();
      await untilNothingIsLeft();
    },
    TIMEOUT_MS,
  );

  test(
    "that is killed ends the job, and what it still ran is removed once it is back",
    async () => {
      const job = await sleeping();
      await engine.stop("SIGKILL");
      expect(await reported(job)).toMatchObject({ state: "failed", failureReason: "runner_system_failure" });
      await engine.start();
      await works();
      await untilNothingIsLeft();
    },
    TIMEOUT_MS,
  );

  test(
    "that freezes holds a job up and loses nothing of it, and a cancel is carried out when it goes on",
    async () => {
      const counting = site.coordinator.enqueue({
        script: ["i=0; while [ $i -lt 60 ]; do i=$((i+1)); echo line-$i; sleep 0.05; done"],
      });
      await counting.traceContains("line-5\n", { timeoutMs: 60_000 });
      engine.signal("SIGSTOP");
      await wait(4000);
      expect(counting.trace).not.toContain("line-60");
      engine.signal("SIGCONT");
      expect((await reported(counting)).state, counting.trace).toBe("success");
      const lines = Array.from({ length: 60 }, (_, index) => `line-${index + 1}`);
      expect(counting.trace.match(/^line-\d+/gm)).toEqual(lines);

      const job = await sleeping();
      engine.signal("SIGSTOP");
      job.cancel();
      await wait(1500);
      engine.signal("SIGCONT");
      await untilNothingIsLeft();
      await works();
    },
    TIMEOUT_MS,
  );

  test(
    "whose disk is full fails jobs with that word, and works again when there is room",
    async () => {
      const hungry = site.coordinator.enqueue({ script: ["dd if=/dev/zero of=/fill bs=1M count=500"] });
      expect(await reported(hungry)).toMatchObject({ state: "failed", failureReason: "script_failure" });
      expect(hungry.trace).toMatch(/No space left on device/i);
      await untilNothingIsLeft();

      const filler = join(engine.data, "filler");
      onTestFinished(() => rmSync(filler, { force: true }));
      const { bavail, bsize } = statfsSync(engine.data);
      spawnSync("dd", ["if=/dev/zero", `of=${filler}`, "bs=64k", `count=${Math.ceil((bavail * bsize) / 65536) + 1}`]);
      const unlucky = site.coordinator.enqueue({ script: ["true"] });
      expect(await reported(unlucky)).toMatchObject({ state: "failed", failureReason: "runner_system_failure" });
      expect(unlucky.trace).toMatch(/no space left on device/i);
      rmSync(filler, { force: true });
      await works();
      await untilNothingIsLeft();
    },
    TIMEOUT_MS,
  );

  test.each(["binary", "node"] as const)(
    "is reached by tcp with TLS from the %s, artifacts come and go over it, and the log has no words of others",
    async (runtime) => {
      const entry = `host = "${engine.tcp}"\ntls_verify = true\ntls_cert_path = "${join(engine.dir, "tls")}"`;
      // Closing the site checks each line that the runner wrote on stderr; DEBUG makes many programs write more of
      // them.
      const far = await openSite({ ...options(entry), run: { runtime, env: { DEBUG: "*" } } });
      onTestFinished(async () => await far.close());
      const first = far.coordinator.enqueue({
        script: ["head -c 3000000 /dev/urandom >big", "sha256sum big >sum", "seq 1 20000"],
        artifacts: { paths: ["big", "sum"] },
      });
      expect((await reported(first)).state, first.trace.slice(-3000)).toBe("success");
      expect(first.trace).toMatch(/\n20000\r?\n/);
      const second = far.coordinator.enqueue({ script: ["sha256sum -c sum", "exit 7"], dependencies: [first] });
      expect(await reported(second)).toMatchObject({ state: "failed", exitCode: 7 });
      expect(second.trace).toContain("big: OK");
      await untilNothingIsLeft();
    },
    TIMEOUT_MS,
  );
});
