import { execFile, spawnSync } from "node:child_process";
import { mkdirSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, onTestFinished, test } from "vitest";
import { dockerAt, imageName } from "../support/docker.ts";
import { makeImages } from "../support/images.ts";
import { hasDockerd, isRoot, ownEngine } from "../support/own-engine.ts";
import { program, start } from "../support/program.ts";
import { openSite } from "../support/site.ts";

test.skipIf(!isRoot || !hasDockerd)(
  "two runners on one queue: one loses its engine, then its disk, and no job fails",
  async () => {
    const engine = await ownEngine();
    onTestFinished(() => engine.dispose());
    await engine.start();
    await makeImages(dockerAt(engine.host), `two-${process.pid}`, ["git"]);
    const image = imageName("git");
    const site = await openSite({
      dialect: "gitlab",
      executor: "docker",
      global: 'concurrent = 2\nmin_free_disk = "16MiB"\ncheck_interval = 1',
      entry: `[runners.docker]\nhost = "${engine.host}"\nimage = "${image}"\nhelper_image = "${image}"\npull_policy = "never"`,
    });
    onTestFinished(() => site.close());
    const second = join(site.dir, "second");
    mkdirSync(second);
    const { token } = site.coordinator.addRunner();
    const config = join(second, "config.toml");
    writeFileSync(
      config,
      `state_dir = "${second}/state"\nconcurrent = 1\ncheck_interval = 1\n[[runners]]\nname = "second"\nurl = "${site.coordinator.url}"\ntoken = "${token}"\nexecutor = "shell"\n`,
      { mode: 0o600 },
    );
    const shell = start(["run", "--config", config, "--working-directory", second], { home: second });
    onTestFinished(async () => void (await shell.stop()));

    const [command, ...words] = program();
    const reasonNow = async (): Promise<string> => {
      const asked = await promisify(execFile)(command, [...words, "jobs", "--json", "--config", site.configFile]);
      return JSON.parse(asked.stdout).runners[0].reason;
    };
    /** Some jobs at once, so that both runners would have their share; all of them succeed. */
    const allWell = async (): Promise<string> => {
      const jobs = Array.from({ length: 6 }, () =>
        site.coordinator.enqueue({ script: ["sleep 0.3"], variables: { GIT_STRATEGY: "none" } }),
      );
      const ends = await Promise.all(jobs.map((job) => job.reported({ timeoutMs: 120_000 })));
      expect(
        ends.map(({ state }) => state),
        jobs.map(({ trace }) => trace).join("\n"),
      ).toEqual(jobs.map(() => "success"));
      return jobs.map(({ trace }) => trace).join("\n");
    };
    const inContainers = /on its container|container [0-9a-f]{12} on/;
    await expect.poll(allWell, { timeout: 60_000 }).toMatch(inContainers);

    await engine.stop("SIGTERM");
    expect(await allWell()).not.toMatch(inContainers);
    expect(await reasonNow()).toMatch(/^no job could run: .*docker\.sock does not answer/);

    await engine.start();
    await expect.poll(allWell, { timeout: 60_000 }).toMatch(inContainers);

    const filler = join(engine.data, "filler");
    const { bavail, bsize } = statfsSync(engine.data);
    spawnSync("dd", ["if=/dev/zero", `of=${filler}`, "bs=64k", `count=${Math.ceil((bavail * bsize) / 65536) + 1}`]);
    await expect.poll(reasonNow, { timeout: 20_000 }).toMatch(/^disk of .*: 0 MB free, min_free_disk 17 MB$/);
    expect(await allWell()).not.toMatch(inContainers);

    rmSync(filler);
    await expect.poll(allWell, { timeout: 60_000 }).toMatch(inContainers);
  },
  300_000,
);
