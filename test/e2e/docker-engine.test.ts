import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { dockerAt, imageName } from "../support/docker.ts";
import { makeImages } from "../support/images.ts";
import { openSite, type Site } from "../support/site.ts";

const isRoot = process.geteuid?.() === 0;
const hasDockerd = spawnSync("sh", ["-c", "command -v dockerd"]).status === 0;

/** An engine of this test's own, which it may stop and kill. */
interface OwnEngine {
  readonly host: string;
  start(): Promise<void>;
  /** @returns once it has ended */
  stop(signal: NodeJS.Signals): Promise<void>;
  dispose(): Promise<void>;
}

function ownEngine(): OwnEngine {
  const dir = mkdtempSync(join(tmpdir(), "alloy-engine-"));
  const socket = join(dir, "docker.sock");
  let daemon: ChildProcess | null = null;
  const stop = async (signal: NodeJS.Signals): Promise<void> => {
    const ending = daemon;
    daemon = null;
    if (ending === null || ending.exitCode !== null) return;
    const ended = once(ending, "exit");
    ending.kill(signal);
    await ended;
  };
  return {
    host: `unix://${socket}`,
    start: async () => {
      rmSync(join(dir, "pid"), { force: true });
      mkdirSync(join(dir, "data"), { recursive: true });
      const places = [
        "--data-root",
        join(dir, "data"),
        "--exec-root",
        join(dir, "exec"),
        "--pidfile",
        join(dir, "pid"),
      ];
      const nets = ["--bridge=none", "--iptables=false", "--default-address-pool", "base=10.214.0.0/16,size=24"];
      daemon = spawn("dockerd", [...places, ...nets, "--host", `unix://${socket}`], { stdio: "ignore" });
      const docker = dockerAt(`unix://${socket}`);
      for (;;) {
        if (
          await docker.ping().then(
            () => true,
            () => false,
          )
        )
          return;
        if (daemon.exitCode !== null) throw new Error("dockerd does not start");
        await wait(100);
      }
    },
    stop,
    dispose: async () => {
      await stop("SIGTERM");
      for (const line of execFileSync("cat", ["/proc/self/mounts"], { encoding: "utf8" }).split("\n")) {
        const place = line.split(" ")[1] ?? "";
        if (place.startsWith(`${dir}/`)) spawnSync("umount", ["-l", place]);
      }
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

describe("an engine that goes away in mid-job", () => {
  if (!isRoot || !hasDockerd) {
    test.skip("needs root and dockerd", () => {});
    return;
  }
  const engine = ownEngine();
  let site: Site;
  beforeAll(async () => {
    await engine.start();
    await makeImages(dockerAt(engine.host), `own-${process.pid}`, ["git"]);
    site = await openSite({
      dialect: "gitlab",
      executor: "docker",
      entry: `[runners.docker]\nhost = "${engine.host}"\nimage = "${imageName("git")}"\nhelper_image = "${imageName("git")}"\npull_policy = "never"`,
    });
  }, 240_000);
  afterAll(async () => {
    await site.close();
    await engine.dispose();
  }, 120_000);

  test("ends the job with its name, and the next job works once it is back", async () => {
    const job = site.coordinator.enqueue({ script: ["echo is-$((1+1))-ready; sleep 600"] });
    await job.traceContains("is-2-ready", { timeoutMs: 60_000 });
    await engine.stop("SIGTERM");
    const update = await job.reported({ timeoutMs: 120_000 });
    expect(update).toMatchObject({ state: "failed", failureReason: "runner_system_failure" });
    expect(job.trace).toMatch(/connection to the build container was lost|has ended with status|does not answer/);

    // Nobody answers: the job is tried again before it fails, and says who it was that did not answer.
    const away = site.coordinator.enqueue({ script: ["true"] });
    const failed = await away.reported({ timeoutMs: 120_000 });
    expect(failed).toMatchObject({ state: "failed", failureReason: "runner_system_failure" });
    expect(away.trace).toContain(engine.host);
    expect(away.trace).toContain("try 2 of 3");

    await engine.start();
    const next = site.coordinator.enqueue({ script: ["echo works"] });
    expect((await next.reported({ timeoutMs: 120_000 })).state, next.trace).toBe("success");
    const docker = dockerAt(engine.host);
    const filters = { label: ["alloy-runner.job-key"] };
    await expect
      .poll(
        async () =>
          [...(await docker.listContainers({ all: true, filters })), ...(await docker.listNetworks({ filters }))]
            .length,
        {
          timeout: 90_000,
          interval: 500,
        },
      )
      .toBe(0);
  }, 400_000);
});
