import { afterAll, beforeAll, describe, test } from "vitest";
import { executorContract } from "../contract/executor.ts";
import { sshdMissing } from "../support/sshd.ts";
import { openStand, type SshStand } from "./ssh-stand.ts";

const missing = sshdMissing();

describe.each([
  ["bash", false],
  ["sh", false],
  ["bash", true],
  ["sh", true],
] as const)("ssh executor with %s, durable: %s", (shell, durable) => {
  if (missing !== null) {
    test.skip(`needs sshd: ${missing}`, () => {});
    return;
  }
  let stand: SshStand;
  beforeAll(async () => {
    stand = await openStand();
  });
  afterAll(() => stand.close());
  executorContract(`${shell} over ssh${durable ? ", durable" : ""}`, {
    open: async (options) => stand.open({ shell, durable, ...options }),
  });
});
