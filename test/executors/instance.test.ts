import { randomBytes } from "node:crypto";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, test } from "vitest";
import { autoscalerTable } from "../../executors/autoscaler/index.ts";
import instance from "../../executors/instance/index.ts";
import { executorContract } from "../contract/executor.ts";
import { executorDeps } from "../support/executor-deps.ts";
import { loginUser, type Sshd, type SshUser, sshdMissing, startSshd } from "../support/sshd.ts";

const missing = sshdMissing();

describe.each(["bash", "sh"] as const)("instance executor with %s", (shell) => {
  if (missing !== null) {
    test.skip(`needs sshd: ${missing}`, () => {});
    return;
  }
  let sshd: Sshd;
  let user: SshUser;
  beforeAll(async () => {
    sshd = await startSshd();
    user = loginUser(sshd);
    mkdirSync(join(sshd.dir, "scratch"));
  });
  afterAll(() => sshd.close());

  executorContract(`${shell} on an instance`, {
    open: async (options) => {
      const autoscaler = autoscalerTable.parse({
        plugin: "static",
        plugin_config: {
          instances: {
            one: { internal_addr: `${sshd.host}:${sshd.port}`, username: user.name, key_path: sshd.keyFile },
          },
        },
        capacity_per_instance: 30,
      });
      const id = randomBytes(4).toString("hex");
      const machines = { runnerId: id, shortTokens: [id], limit: Number.POSITIVE_INFINITY };
      const buildsDir = join(user.home, "builds");
      const deps = executorDeps(sshd.dir, { killGraceMs: 1000, buildsDir, shell, machines, ...options });
      return instance.create({ autoscaler }, deps);
    },
  });
});
