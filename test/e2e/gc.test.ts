import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { promisify } from "node:util";
import { expect, onTestFinished, test } from "vitest";
import { program } from "../support/program.ts";
import { openSite } from "../support/site.ts";

test("gc shows and removes directories for builds beyond the budget, by the runner and without it", async () => {
  const site = await openSite({
    dialect: "gitlab",
    executor: "shell",
    global: 'concurrent = 2\n[housekeeping]\nbuilds = "3MiB"',
  });
  onTestFinished(() => site.close());
  const [command, ...words] = program();
  const gc = async (...args: string[]): Promise<string> => {
    const env = { HOME: site.dir, PATH: process.env.PATH };
    const asked = await promisify(execFile)(command, [...words, "gc", ...args, "--config", site.configFile], {
      env,
      cwd: site.workDir,
    });
    return asked.stdout;
  };
  const script = (seconds: number): string[] => [
    "head -c 2097152 /dev/urandom >large",
    "echo at-$PWD.",
    `sleep ${seconds}`,
  ];
  const variables = { GIT_STRATEGY: "none" };
  const placeOf = (trace: string): string => /^at-(.+)\.\r?$/m.exec(trace)?.[1] ?? "nowhere";
  expect(await gc("--dry-run")).toBe("nothing has to go: all is within the budgets of [housekeeping]\n");

  // Both at once, so that they are in two places.
  const long = site.coordinator.enqueue({ script: script(600), variables });
  await long.traceContains("at-/");
  const short = site.coordinator.enqueue({ script: script(0), variables });
  expect((await short.reported()).state, short.trace).toBe("success");
  const [held, free] = [placeOf(long.trace), placeOf(short.trace)];
  expect(held).not.toBe(free);

  // The one that a job works in counts, and stays.
  const dry = await gc("--dry-run");
  expect(dry).toContain(`builds  ${free}  this machine  2.0 MiB`);
  expect(dry).toContain("builds take 4 MiB of 3 MiB");
  expect(dry).toMatch(/\n1 thing of 2\.0 MiB would go\n$/);
  expect(dry).not.toContain(held);
  expect(existsSync(free)).toBe(true);
  expect(await gc()).toMatch(/\nremoved 1 thing of 2\.0 MiB\n$/);
  expect([existsSync(free), existsSync(held)]).toEqual([false, true]);

  const again = site.coordinator.enqueue({ script: script(0), variables });
  expect((await again.reported()).state, again.trace).toBe("success");
  long.cancel();
  await long.reported();
  await site.runner.stop();
  const { things } = JSON.parse(await gc("--json"));
  expect(things).toMatchObject([{ kind: "builds", name: free, why: "builds take 4 MiB of 3 MiB" }]);
  expect([existsSync(free), existsSync(held)]).toEqual([false, true]);
});
