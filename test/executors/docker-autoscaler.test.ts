import { randomBytes } from "node:crypto";
import { userInfo } from "node:os";
import { afterAll, beforeAll, describe, test } from "vitest";
import { autoscalerTable } from "../../executors/autoscaler/index.ts";
import dockerAutoscaler from "../../executors/docker-autoscaler/index.ts";
import type { ExecutorDefinition } from "../../src/executor/executor.ts";
import { executorContract } from "../contract/executor.ts";
import { noEngine, testEngine } from "../support/docker.ts";
import { type Sshd, sshdMissing, startSshd } from "../support/sshd.ts";
import { standOfSuite, TIMEOUT_MS } from "./docker-stand.ts";

const engine = await testEngine("docker");
const missing = sshdMissing();

describe("docker-autoscaler executor", () => {
  if (engine === null || missing !== null) {
    test.skip(missing === null ? noEngine("docker") : `needs sshd: ${missing}`, () => {});
    return;
  }
  let sshd: Sshd | undefined;
  beforeAll(async () => {
    sshd = await startSshd();
  });
  afterAll(() => sshd?.close());

  /** Executors of one test are several entries with the same host: what is one's pool is none of the other's. */
  const onHost: ExecutorDefinition = {
    ...dockerAutoscaler,
    create: (given, deps) => {
      const id = randomBytes(4).toString("hex");
      const machines = { runnerId: id, shortTokens: [id], limit: Number.POSITIVE_INFINITY };
      const { keyFile, port } = sshd ?? { keyFile: "", port: 0 };
      const one = { internal_addr: `127.0.0.1:${port}`, username: userInfo().username, key_path: keyFile };
      const autoscaler = autoscalerTable.parse({
        plugin: "static",
        plugin_config: { instances: { one } },
        capacity_per_instance: 30,
      });
      return dockerAutoscaler.create({ ...given, autoscaler }, { ...deps, entry: { ...deps.entry, machines } });
    },
  };
  const stand = standOfSuite(engine, ["git"], { definition: onHost, tables: {}, image: "git" });

  executorContract("docker-autoscaler", {
    open: async (options) => stand().open({}, options),
    timeoutMs: TIMEOUT_MS,
    jobsAtOnce: 5,
    shared: true,
  });
});
