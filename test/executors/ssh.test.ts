import { afterAll, beforeAll, describe, test } from "vitest";
import { executorContract } from "../contract/executor.ts";
import { sshdMissing } from "../support/sshd.ts";
import { openStand, type SshStand } from "./ssh-stand.ts";

const missing = sshdMissing();

describe("ssh executor", () => {
  if (missing !== null) {
    test.skip(`needs sshd: ${missing}`, () => {});
    return;
  }
  let stand: SshStand;
  beforeAll(async () => {
    stand = await openStand();
  });
  afterAll(() => stand.close());
  executorContract("bash over ssh", { open: async (options) => stand.open({ shell: "bash", ...options }) });
  executorContract("sh over ssh", { open: async (options) => stand.open({ shell: "sh", ...options }) });
});
