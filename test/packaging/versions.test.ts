import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { copyFile, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type LocalCoordinator, startCoordinator } from "../../src/local/coordinator/coordinator.ts";
import { type Booted, boot, cannotBoot } from "../support/booted.ts";
import { LATER, makeLaterPackages } from "../support/later-version.ts";

const missing = ["/usr/bin/dpkg-deb", "/usr/bin/rpmbuild"].find((program) => !existsSync(program));
const why = missing === undefined ? cannotBoot() : `needs ${missing}`;
if (why !== null && process.env.CI === "true") throw new Error(`the tests of the packages cannot run: ${why}`);
const top = join(import.meta.dirname, "../..");
const SECRET = "hush-4711-hush-4711";

/** Packages of this version and of a later one that keeps jobs in a format of its own; with the job of `live` each. */
const kinds = {
  deb: { install: ["dpkg", "--install", "--force-depends"], again: ["dpkg", "--install", "--force-depends"] },
  rpm: {
    install: ["rpm", "-i", "--nodeps", "--force-debian"],
    again: ["rpm", "-U", "--oldpackage", "--nodeps", "--force-debian"],
  },
} as const;

describe.skipIf(why !== null)(`versions of the packages${why === null ? "" : ` (skipped: ${why})`}`, () => {
  let dir: string;
  let coordinator: LocalCoordinator;
  let system: Booted | undefined;

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), "alloy-versions-"));
    coordinator = await startCoordinator({ dialect: "gitlab" });
    const make = ["scripts/packages.mjs", process.arch, "--fast", "--out", dir];
    await promisify(execFile)(process.execPath, make, { cwd: top });
    await makeLaterPackages(dir);
  }, 400_000);
  afterAll(async () => {
    await coordinator?.close();
    await rm(dir, { recursive: true, force: true });
  });

  for (const [kind, { install, again }] of Object.entries(kinds)) {
    test(`a job goes on through an upgrade and back with the ${kind}; of one that only the later version knows it is said`, {
      timeout: 240_000,
    }, async () => {
      const packages = (await readdir(dir)).filter((name) => name.endsWith(`.${kind}`));
      const later = packages.find((name) => name.includes(LATER)) ?? "";
      const now = packages.find((name) => name !== later) ?? "";
      system = await boot();
      try {
        const { root, must, exec } = system;
        for (const name of [now, later]) await copyFile(join(dir, name), join(root, "root", name));
        if (kind === "rpm") await must(["rpm", "--initdb"]);
        const version = async (): Promise<string> =>
          (await must(["alloy-runner", "--version"])).split("\n")[0]?.split(" ")[1] ?? "";
        const mainPid = async (): Promise<string> =>
          (await must(["systemctl", "show", "--value", "-p", "MainPID", "alloy-runner"])).trim();
        /** Until another process of the service asks for jobs. */
        const change = async (name: string): Promise<void> => {
          const before = await mainPid();
          await must([...again, `/root/${name}`]);
          await expect.poll(mainPid, { timeout: 60_000, interval: 100 }).not.toBe(before);
          const state = (): Promise<string> => must(["systemctl", "is-active", "alloy-runner"]).catch(() => "");
          await expect.poll(state, { timeout: 60_000, interval: 100 }).toBe("active\n");
        };

        await must([...install, `/root/${now}`]);
        const { token } = coordinator.addRunner();
        const entry = `concurrent = 3\n[[runners]]\nname = "one"\nurl = "${coordinator.url}"\ntoken = "${token}"\nexecutor = "shell"\n`;
        await writeFile(join(root, "etc/alloy-runner/config.toml"), entry, { mode: 0o600 });
        await must(["systemctl", "restart", "alloy-runner"]);
        const own = await version();
        const begin = async (name: string, steps: number) => {
          const job = coordinator.enqueue({
            name,
            runnerToken: token,
            script: [
              `echo once >>/tmp/${name}-runs; echo shell $$ $SECRET`,
              `for step in $(seq 1 ${steps}); do until [ -e /tmp/${name}-$step ]; do sleep 0.05; done; seq 1 $((step * 500)); echo step $step; done`,
            ],
            afterScript: ["echo afterwards, $CI_JOB_STATUS"],
            variables: [{ key: "SECRET", value: SECRET, masked: true }],
          });
          await job.traceContains("shell ");
          return job;
        };
        const step = async (job: Awaited<ReturnType<typeof begin>>, number: number): Promise<void> => {
          await writeFile(join(root, `tmp/${job.name}-${number}`), "");
          await job.traceContains(`step ${number}\n`);
        };

        const early = await begin("early", 2);
        await change(later);
        expect(await version()).toBe(LATER);
        await step(early, 1);
        const late = await begin("late", 1);
        await change(now);
        expect(await version()).toBe(own);
        await step(early, 2);

        expect(await early.finished()).toMatchObject({ status: "success" });
        const numbers = [...early.trace.matchAll(/^(\d+)$/gm)].map(([, number]) => Number(number));
        expect(numbers).toEqual([1, 2].flatMap((part) => Array.from({ length: part * 500 }, (_, at) => at + 1)));
        expect(early.trace.match(/the job went on/g)).toHaveLength(2);
        expect(early.trace).toContain("afterwards, success\n");
        expect(await late.finished()).toMatchObject({ status: "failed", failureReason: "runner_system_failure" });
        expect(late.trace).toContain(
          `the job was begun by alloy-runner ${LATER}, which this one (${own}) cannot follow`,
        );
        expect(late.trace).toMatch(/ended \d+ process/);
        expect(late.trace).not.toContain("afterwards");
        const [, shell = ""] = /^shell (\d+)/m.exec(late.trace) ?? [];
        expect((await exec(["kill", "-0", shell])).code).not.toBe(0);
        for (const job of [early, late]) {
          expect(job.trace).not.toContain(SECRET);
          expect(await readFile(join(root, `tmp/${job.name}-runs`), "utf8")).toBe("once\n");
        }
        const left =
          "grep -rlF hush-4711 /var/lib/alloy-runner /run/alloy-runner; find /var/lib/alloy-runner -name payload";
        expect((await exec(["sh", "-c", left])).stdout).toBe("");
      } finally {
        await system.close();
        system = undefined;
      }
    });
  }
});
