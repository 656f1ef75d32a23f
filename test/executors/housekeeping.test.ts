import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import type { Environment } from "../../src/executor/environment.ts";
import type { Executor } from "../../src/executor/executor.ts";
import type { KeepBudgets, Tidied } from "../../src/executor/keeping.ts";
import { never } from "../../src/time.ts";
import { imageName, noEngine, type TestEngine, testEngine } from "../support/docker.ts";
import { runOps, Sink, sampleRequest, source } from "../support/executor-kit.ts";
import { registryMissing, startRegistry, type TestRegistry } from "../support/registry.ts";
import { openDockerStand, standOfSuite, TIMEOUT_MS } from "./docker-stand.ts";

const all: KeepBudgets = { images: null, volumes: null, builds: null, free: null };
const none: KeepBudgets = { ...all, images: 0, volumes: 0 };

for (const kind of ["docker", "podman"] as const) {
  const engine = await testEngine(kind);
  const missing = registryMissing();
  describe.skipIf(engine === null || missing !== null)(
    `housekeeping on ${kind}${engine === null ? ` (${noEngine(kind)})` : ""}`,
    () => {
      if (engine !== null) suite(engine);
    },
  );
}

function suite(engine: TestEngine): void {
  const { docker } = engine;
  const stand = standOfSuite(engine, ["git"]);
  const mine = randomBytes(4).toString("hex");
  let registry: TestRegistry;
  const names: string[] = [];
  beforeAll(async () => {
    registry = await startRegistry({ open: true });
    // Images whose last layer nobody else has.
    for (const name of ["old", "young", "theirs"]) {
      const made = await docker.createContainer({
        Image: imageName("git"),
        Entrypoint: ["sh", "-c", "head -c 3000000 /dev/urandom >/content"],
        Cmd: [],
        HostConfig: { NetworkMode: "none" },
      });
      await made.start();
      await made.wait();
      const repo = `localhost/alloy-${mine}-${name}`;
      await made.commit({ repo, tag: "1", changes: 'ENTRYPOINT []\nCMD ["sh"]' });
      await made.remove();
      names.push(await registry.push(docker, `${repo}:1`, `${name}-${mine}:1`));
      await docker.getImage(`${repo}:1`).remove();
    }
  }, TIMEOUT_MS);
  afterAll(async () => {
    for (const name of names)
      await docker
        .getImage(name)
        .remove({ force: true })
        .catch(() => {});
    await registry?.close();
  }, TIMEOUT_MS);

  const isThere = async (name: string): Promise<boolean> =>
    await docker
      .getImage(name)
      .inspect()
      .then(
        () => true,
        () => false,
      );
  const opened = (table: Record<string, unknown>): Executor => {
    const executor = stand().open(table);
    onTestFinished(() => executor.close(never));
    return executor;
  };
  const prepared = async (image: string): Promise<Environment> => {
    const executor = opened({ image, pull_policy: "always", helper_image: image });
    return await executor.prepare(sampleRequest(), new Sink(), never);
  };
  const ranWith = async (image: string): Promise<void> => await (await prepared(image)).destroy(never);
  const tidied = async (budgets: KeepBudgets, dry = false): Promise<readonly Tidied[]> =>
    (await opened({}).tidy?.(budgets, { dry }, never)) ?? [];
  const of = (things: readonly Tidied[], wanted: Tidied["kind"]): string[] =>
    things.filter(({ kind }) => kind === wanted).map(({ name }) => name);

  test(
    "only images that it pulled itself go, oldest use first, and none that is used or has another's name",
    async () => {
      const [old = "", young = "", theirs = ""] = names;
      // One is there before any job asks for it.
      for await (const _ of await docker.pull(theirs)) void _;
      await ranWith(theirs);
      await ranWith(old);
      const job = await prepared(young);
      expect(await tidied(all)).toEqual([]);

      const dry = await tidied(none, true);
      expect(of(dry, "image").map((name) => names.indexOf(name))).toEqual([0]);
      expect(dry.find(({ kind }) => kind === "image")).toMatchObject({
        why: expect.stringMatching(/^images take \d+ MiB of 0 MiB$/),
      });
      expect(await isThere(old)).toBe(true);

      const mark = await docker.createContainer({ Image: old, Cmd: ["true"] });
      expect(of(await tidied(none), "image")).toEqual([]);
      await mark.remove();
      await docker.getImage(old).tag({ repo: `localhost/alloy-${mine}-kept`, tag: "1" });
      expect(of(await tidied(none), "image")).toEqual([]);
      await docker.getImage(`localhost/alloy-${mine}-kept:1`).remove();
      expect(of(await tidied(none), "image")).toEqual([old]);
      expect(await isThere(old)).toBe(false);

      await job.destroy(never);
      expect(of(await tidied(none), "image")).toEqual([young]);
      expect(await isThere(young)).toBe(false);
      expect(await isThere(theirs)).toBe(true);
      expect(await isThere(imageName("git"))).toBe(true);
    },
    TIMEOUT_MS,
  );

  test(
    "what was used longer ago goes first, as far as the budget wants, also after a restart",
    async () => {
      const [old = "", young = ""] = names;
      await ranWith(young);
      await ranWith(old);
      await ranWith(young);
      const sizes = (await tidied({ ...all, images: 0 }, true)).map(({ bytes }) => bytes);
      expect(sizes).toHaveLength(2);
      // Podman counts the texts that describe an image, whose times of making are written with more or fewer digits.
      expect(of(await tidied({ ...all, images: Math.max(...sizes) + 1 }), "image")).toEqual([old]);
      expect(of(await tidied({ ...all, free: { share: 1 } }), "image")).toEqual([young]);
    },
    TIMEOUT_MS,
  );

  test(
    "volumes of its jobs go when no job has them; those of others stay",
    async () => {
      const other = await docker.createVolume({ Name: `alloy-${mine}-theirs` });
      onTestFinished(async () => void (await docker.getVolume(`alloy-${mine}-theirs`).remove()));
      expect(other).toBeTruthy();
      const elsewhere = openDockerStand(engine);
      onTestFinished(() => elsewhere.close());
      const foreign = elsewhere.open();
      onTestFinished(() => foreign.close(never));
      await (await foreign.prepare(sampleRequest(), new Sink(), never)).destroy(never);

      const executor = opened({});
      const job = await executor.prepare(sampleRequest(), new Sink(), never);
      await runOps(job, source("head -c 3000000 /dev/urandom >/builds/data"));
      await executor.tidy?.({ ...all, volumes: 0 }, { dry: false }, never);
      expect(of(await tidied({ ...all, volumes: 0 }, true), "volume")).toEqual([]);
      await job.destroy(never);
      const gone = of(await tidied({ ...all, volumes: 0 }), "volume");
      expect(gone).toHaveLength(1);
      expect(gone[0]).toContain(stand().runner());
      expect(of(await tidied({ ...all, volumes: 0 }), "volume")).toEqual([]);
      const left = (await docker.listVolumes()).Volumes.map(({ Name }) => Name);
      expect(left).toContain(`alloy-${mine}-theirs`);
      expect(left.some((name) => name.includes(elsewhere.runner()))).toBe(true);
    },
    TIMEOUT_MS,
  );
}
