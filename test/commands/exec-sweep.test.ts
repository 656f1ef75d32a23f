import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { Writable } from "node:stream";
import { expect, test } from "vitest";
import { startSweep } from "../../src/commands/exec/here/sweep.ts";
import { never } from "../../src/time.ts";
import { createCatalog, makeDir } from "../config/support.ts";
import { testDeps } from "../coordinator/server.ts";

test("what a dead run has left keeps nobody waiting, even where its clean-up does not end", async () => {
  const runsDir = await makeDir();
  await mkdir(join(runsDir, "0-dead"));
  const begun = Promise.withResolvers<void>();
  const stuck = () => {
    begun.resolve();
    return new Promise<never>(() => {});
  };
  const places = { runsDir, runDir: join(runsDir, "own"), cachesDir: runsDir };
  const context = {
    env: {},
    cwd: runsDir,
    uid: 1000,
    catalog: createCatalog(),
    coordinator: testDeps(),
    output: new Writable(),
    print: () => {},
    say: () => {},
    signal: never,
  };
  const sweep = startSweep(places, stuck, context, { patienceMs: 20, lastStepMs: 20 });
  await begun.promise;
  await sweep.soon(never);
  expect(await sweep.end()).toEqual([expect.stringContaining("the next exec goes on")]);
});
