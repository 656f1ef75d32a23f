import { afterAll, beforeAll, describe, test } from "vitest";
import { executorContract } from "../contract/executor.ts";
import { sshdMissing } from "../support/sshd.ts";
import { openStand, type SshStand } from "./ssh-stand.ts";

const missing = sshdMissing();

describe.each(["bash", "sh"] as const)("ssh executor with %s", (shell) => {
  if (missing !== null) {
    test.skip(`needs sshd: ${missing}`, () => {});
    return;
  }
  let stand: SshStand;
  beforeAll(async () => {
    stand = await openStand();
  });
  afterAll(() => stand.close());
  executorContract(`${shell} over ssh`, { open: async (options) => stand.open({ shell, ...options }) });
});
