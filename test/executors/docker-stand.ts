import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect } from "vitest";
import { connectEngine, type Engine } from "../../executors/docker/engine/engine.ts";
import type { Owner } from "../../executors/docker/engine/labels.ts";
import docker from "../../executors/docker/index.ts";
import type { Executor, ExecutorDefinition } from "../../src/executor/executor.ts";
import type { Job } from "../../src/job/job.ts";
import type { Log } from "../../src/log.ts";
import type { ShellName } from "../../src/shell.ts";
import { never } from "../../src/time.ts";
import type { OpenOptions } from "../contract/executor.ts";
import { imageName, type TestEngine, type TestImage } from "../support/docker.ts";
import { executorDeps } from "../support/executor-deps.ts";

export type Table = Readonly<Record<string, unknown>>;

/** Executors on one engine that look like those of one installation. */
export interface DockerStand {
  readonly dir: string;
  /**
   * Opens an executor with this `[runners.docker]`, besides host, the tests' images and a policy that pulls nothing.
   */
  open(
    table?: Table,
    options?: OpenOptions & { readonly buildsDir?: string; readonly shell?: ShellName; readonly durable?: boolean },
  ): Executor;
  /** Returns the id of a runner that has no volumes yet; `open` puts it in the place of the contract's. */
  newRunner(): string;
  /** The id that executors get if they are opened now. */
  runner(): string;
  /** Containers, networks and volumes that belong to a job, running or not. */
  leftovers(): Promise<string[]>;
  close(): Promise<void>;
}

/** A connection of the runner's own to an engine of the tests. */
export async function connectTo({ host }: Pick<TestEngine, "host">): Promise<Engine> {
  const settings = { host, tlsCertPath: "", tlsVerify: false };
  return await connectEngine({ settings, env: {}, scratchDir: "/nowhere" }, never);
}

/** What tests of single parts of the executor need. */
export interface EngineStand {
  /** Connected before the first test, closed after the last one. */
  engine(): Engine;
  /** This process as the owner of containers, in an installation that no other test has. */
  readonly owner: Owner;
  readonly log: Log;
}

/** For the tests of one `describe`, with the image of a shell at hand. */
export function useEngine(found: TestEngine): EngineStand {
  let engine: Engine | undefined;
  beforeAll(async () => {
    await found.images("sh");
    engine = await connectTo(found);
  }, 240_000);
  afterAll(async () => await engine?.close());
  const log: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {}, child: () => log };
  return {
    engine: () => {
      if (engine === undefined) throw new Error("the engine is connected in beforeAll");
      return engine;
    },
    owner: { installation: randomBytes(8).toString("hex"), process: "1-1" },
    log,
  };
}

const RUNNER_LABEL = "com.gitlab.gitlab-runner.runner.id";

/** Another executor over the same engine, and its tables besides `docker`. */
export interface StandFlavor {
  readonly definition: ExecutorDefinition;
  readonly tables: Table;
  readonly image: TestImage;
}

export function openDockerStand(
  engine: TestEngine,
  { definition, tables, image }: StandFlavor = { definition: docker, tables: {}, image: "git" },
): DockerStand {
  const dir = mkdtempSync(join(tmpdir(), "alloy-docker-"));
  mkdirSync(join(dir, "scratch"));
  const runners: string[] = [];
  const newRunner = (): string => {
    const id = randomBytes(4).toString("hex");
    runners.push(id);
    return id;
  };
  let runnerId = newRunner();
  return {
    dir,
    newRunner: () => {
      runnerId = newRunner();
      return runnerId;
    },
    runner: () => runnerId,
    open: (table = {}, options = {}) => {
      const executor = definition.create(
        {
          ...tables,
          docker: {
            host: engine.host,
            image: imageName(image),
            helper_image: imageName("git"),
            pull_policy: "never",
            ...table,
          },
        },
        executorDeps(dir, options),
      );
      const own = runnerId;
      return {
        ...executor,
        prepare: async (request, notes, signal) => await executor.prepare({ ...request, runnerId: own }, notes, signal),
      };
    },
    leftovers: async () => {
      const found: string[] = [];
      for (const runner of runners) {
        // Podman finds volumes that carry one of the labels, and so also those of other users of the engine.
        const jobs = ({ Labels }: { Labels?: Readonly<Record<string, string>> | null }): boolean =>
          Labels?.["alloy-runner.job-key"] !== undefined && Labels[RUNNER_LABEL] === runner;
        const filters = { label: [`${RUNNER_LABEL}=${runner}`, "alloy-runner.job-key"] };
        for (const one of await engine.docker.listContainers({ all: true, filters })) found.push(one.Names.join());
        for (const one of await engine.docker.listNetworks({ filters })) found.push(one.Name);
        for (const one of (await engine.docker.listVolumes({ filters })).Volumes.filter(jobs)) found.push(one.Name);
      }
      return found;
    },
    close: async () => {
      for (const runner of runners) {
        const filters = { label: [`${RUNNER_LABEL}=${runner}`] };
        for (const one of await engine.docker.listContainers({ all: true, filters })) {
          await engine.docker.getContainer(one.Id).remove({ force: true, v: true });
        }
        for (const one of await engine.docker.listNetworks({ filters })) {
          await engine.docker.getNetwork(one.Id).remove();
        }
        for (const one of (await engine.docker.listVolumes({ filters })).Volumes) {
          await engine.docker.getVolume(one.Name).remove({ force: true });
        }
      }
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** Making images and preparing take long on a busy machine. */
export const TIMEOUT_MS = 240_000;

/**
 * The stand of a suite: it is made before the tests, gives each test a runner of its own, and is checked for leftovers
 * afterwards.
 */
export function standOfSuite(
  engine: TestEngine,
  images: readonly TestImage[],
  flavor?: StandFlavor,
): () => DockerStand {
  let stand: DockerStand | undefined;
  const opened = (): DockerStand => {
    if (stand === undefined) throw new Error("the stand is opened before the first test");
    return stand;
  };
  beforeAll(async () => {
    await engine.images(...images);
    stand = openDockerStand(engine, flavor);
  }, TIMEOUT_MS);
  beforeEach(() => void opened().newRunner());
  afterAll(async () => {
    const left = await opened().leftovers();
    await opened().close();
    expect(left).toEqual([]);
  }, TIMEOUT_MS);
  return opened;
}

/** What a job says of its image, where that is one of the tests' own. */
export function imageOfJob(name: TestImage, parts: Partial<NonNullable<Job["image"]>> = {}): NonNullable<Job["image"]> {
  return { name: imageName(name), entrypoint: null, pullPolicies: [], user: null, platform: null, ...parts };
}
