import { readdirSync, readFileSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import Docker from "dockerode";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { imageName, noEngine, sshPassword, testEngine } from "../support/docker.ts";
import {
  buildDockerMachine,
  hostMissing,
  type MachineHost,
  openMachineHost,
} from "../support/docker-machine/real/host.ts";
import { openSite } from "../support/site.ts";

/** The real docker-machine, on a host whose namespaces are its own, with the built program. */

const engine = await testEngine("docker");
const missing = hostMissing();
const TIMEOUT_MS = 300_000;

describe("jobs on a machine of the real docker-machine", () => {
  if (engine === null || missing !== null) {
    test.skip(missing ?? noEngine("docker"), () => {});
    return;
  }
  let program: string;
  beforeAll(async () => {
    await engine.images("git", "sshd");
    program = await buildDockerMachine();
  }, TIMEOUT_MS);

  test.each([
    { executor: "docker+machine", image: "git", more: "" },
    {
      executor: "docker-ssh+machine",
      image: "sshd",
      more: `[runners.ssh]\nuser = "root"\npassword = "${sshPassword}"`,
    },
  ] as const)(
    "$executor: it is set up, a job runs there, and nothing is left",
    { timeout: TIMEOUT_MS },
    async (one) => {
      const host = await openMachineHost();
      onTestFinished(() => host.close());
      const isLinked = (): boolean =>
        Object.values(networkInterfaces()).some((list) => list?.some(({ address }) => address === host.gateway));
      expect(isLinked()).toBe(true);
      const store = join(host.dir, "store");
      const machines = (): string[] => readdirSync(join(store, "machines"));
      const site = await openSite({
        dialect: "gitlab",
        executor: one.executor,
        global: "concurrent = 1",
        entry: `limit = 1\n${entryOf(host, one)}`,
        run: { env: { PATH: `${program}:${process.env.PATH}`, MACHINE_STORAGE_PATH: store } },
      });
      onTestFinished(() => site.close());
      await expect.poll(() => site.runner.stderr(), { timeout: TIMEOUT_MS }).toContain("a machine was made");
      const [name = ""] = machines();
      expect(name).toMatch(/^runner-\S+-real-\d+-[0-9a-f]{8}$/);
      const pem = (file: string): Buffer => readFileSync(join(store, "machines", name, file));
      const there = new Docker({
        host: host.address,
        port: 2376,
        protocol: "https",
        ca: pem("ca.pem"),
        cert: pem("cert.pem"),
        key: pem("key.pem"),
      });
      // The machine has no way to a registry.
      for (const image of new Set(["git", one.image] as const)) {
        await there.loadImage(await engine.docker.getImage(imageName(image)).get());
      }
      const job = site.coordinator.enqueue({
        variables: { GIT_STRATEGY: "none" },
        script: ["echo on ${SSH_CONNECTION:+ssh,} $(hostname)", "head -c 300000 /dev/urandom >sent"],
        artifacts: { paths: ["sent"] },
      });
      await job.finished({ timeoutMs: TIMEOUT_MS });
      expect(job.status, job.trace).toBe("success");
      expect(job.trace).toContain(`Using machine ${name}`);
      expect(job.trace).toMatch(one.executor === "docker+machine" ? /^on \S/m : /^on ssh, \S/m);
      expect((await job.artifacts[0]?.read())?.length).toBeGreaterThan(300_000);
      await expect.poll(() => there.listContainers({ all: true }), { timeout: 60_000 }).toEqual([]);
      expect((await there.info()).Name).toBe(name);

      await site.configure({ global: "concurrent = 1", entry: `limit = 1\n${entryOf(host, one, 0)}` });
      site.runner.child.kill("SIGHUP");
      await expect.poll(machines, { timeout: 60_000 }).toEqual([]);
      await site.runner.stop("SIGTERM");
      await host.close();
      expect(await engine.docker.ping().then(String)).toBe("OK");
      await expect.poll(isLinked, { timeout: 10_000 }).toBe(false);
    },
  );

  function entryOf({ address, keyFile }: MachineHost, { image, more }: { image: string; more: string }, idle = 1) {
    return `[runners.docker]
image = "${imageName(image === "sshd" ? "sshd" : "git")}"
helper_image = "${imageName("git")}"
pull_policy = "never"
[runners.machine]
IdleCount = ${idle}
IdleTime = ${idle === 0 ? 0 : 600}
MachineDriver = "generic"
MachineName = "real-%s"
MachineOptions = ["generic-ip-address=${address}", "generic-ssh-user=root", "generic-ssh-key=${keyFile}"]
${more}`;
  }
});
