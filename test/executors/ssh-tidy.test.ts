import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { KeepBudgets } from "../../src/executor/keeping.ts";
import { never } from "../../src/time.ts";
import { Sink, sampleRequest } from "../support/executor-kit.ts";
import { sshdMissing } from "../support/sshd.ts";
import { openStand, type SshStand } from "./ssh-stand.ts";

const missing = sshdMissing();
const budgets: KeepBudgets = { images: null, volumes: null, builds: 3 << 20, free: null };

describe("directories for builds on a far host", () => {
  if (missing !== null) {
    test.skip(`needs sshd: ${missing}`, () => {});
    return;
  }
  let stand: SshStand;
  beforeAll(async () => {
    stand = await openStand();
  });
  afterAll(() => stand.close());

  test("go by their last use, but not while a job has them, nor what no job had", async () => {
    const executor = stand.open();
    const tidy = async (dry: boolean, its = budgets) => await executor.tidy?.(its, { dry }, never);
    expect(await tidy(true)).toEqual([]);
    const prepare = async (path: string) => {
      const environment = await executor.prepare(sampleRequest(path), new Sink(), never);
      const { root } = environment.workspace;
      mkdirSync(root, { recursive: true });
      writeFileSync(join(root, "large"), Buffer.alloc(2 << 20, 1));
      execFileSync("chown", ["-R", stand.user.name, root], { timeout: 10_000 });
      return { root, destroy: () => environment.destroy(never) };
    };
    const oldest = await prepare("group/a b's");
    const held = await prepare("group/held");
    const newest = await prepare("group/newest");
    await oldest.destroy();
    await newest.destroy();
    const stranger = join(dirname(oldest.root), "stranger");
    mkdirSync(stranger);
    writeFileSync(join(stranger, "large"), Buffer.alloc(4 << 20, 1));

    const where = `host ${stand.user.name}@${stand.sshd.host}:${stand.sshd.port}`;
    const first = { kind: "builds", where, why: "builds take 6 MiB of 3 MiB", name: oldest.root };
    expect(await tidy(true)).toMatchObject([first, { name: newest.root }]);
    expect(existsSync(oldest.root)).toBe(true);
    expect(await tidy(false, { ...budgets, builds: 5 << 20 })).toMatchObject([{ name: oldest.root }]);
    // What the account may not remove is named, and stays where it was.
    mkdirSync(join(newest.root, "roots"));
    writeFileSync(join(newest.root, "roots", "file"), "");
    expect(await tidy(false)).toMatchObject([
      { name: newest.root, problem: expect.stringMatching(/denied|permitted/) },
    ]);
    expect(existsSync(join(newest.root, "roots", "file"))).toBe(true);
    execFileSync("chown", ["-R", stand.user.name, newest.root], { timeout: 10_000 });
    writeFileSync(join(newest.root, "large"), Buffer.alloc(2 << 20, 1));
    expect([oldest, held, newest].map(({ root }) => existsSync(root))).toEqual([false, true, true]);

    // A link in its place leads to what is somebody else's.
    await held.destroy();
    symlinkSync(stranger, oldest.root);
    expect(await tidy(false, { ...budgets, builds: 0 })).toMatchObject([{ name: newest.root }, { name: held.root }]);
    expect(existsSync(join(stranger, "large"))).toBe(true);
    expect(readdirSync(join(stand.user.home, "builds", "0a1b2c3d")).filter((name) => /gone/.test(name))).toEqual([]);
    expect(readdirSync(join(stand.user.home, "builds", "0a1b2c3d", ".claims"))).toEqual([]);
    await executor.close(never);
  });

  test("are named where their host cannot be asked", async () => {
    const executor = stand.open();
    const environment = await executor.prepare(sampleRequest("group/far"), new Sink(), never);
    await environment.destroy(never);
    await executor.close(never);
    const away = stand.open({}, { identity_file: join(stand.sshd.dir, "no-such-key") });
    const found = await away.tidy?.({ ...budgets, builds: 0 }, { dry: false }, never);
    expect(found).toMatchObject([{ kind: "builds", name: join(stand.user.home, "builds"), bytes: 0 }]);
    expect(found?.[0]?.problem).toMatch(/no-such-key/);
    await away.close(never);
  });
});
