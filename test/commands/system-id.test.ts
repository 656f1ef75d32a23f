import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { systemId } from "../../src/commands/context.ts";

test("what stands for a machine is what somebody has written down, and is made from the machine elsewhere", async () => {
  const home = await mkdtemp(join(tmpdir(), "alloy-system-id-"));
  onTestFinished(() => rm(home, { recursive: true, force: true }));
  const here = { env: { HOME: home }, uid: 1000, cwd: home };
  const made = await systemId(here);
  expect(made).toMatch(/^[rs]_[0-9a-f]{12}$/);
  await mkdir(join(home, ".alloy-runner"));
  const file = join(home, ".alloy-runner", ".runner_system_id");
  await writeFile(file, "r_Abc123Def456\n");
  expect(await systemId(here)).toBe("r_Abc123Def456");
  await writeFile(file, "anything\n");
  expect(await systemId(here)).toBe(made);
});
