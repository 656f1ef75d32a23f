import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Writable } from "node:stream";
import { expect, onTestFinished, test } from "vitest";
import type { CommandContext } from "../../src/commands/context.ts";
import { resetTokenCommand } from "../../src/commands/reset-token.ts";
import { startCoordinator } from "../../src/local/coordinator/coordinator.ts";
import { never } from "../../src/time.ts";
import { createCatalog, makeDir, write } from "../config/support.ts";
import { testDeps } from "../coordinator/server.ts";

/** A GitLab, and a file with an entry for each of its runners; `more` are lines of the entry. */
async function setUp(more: readonly string[]) {
  const gitlab = await startCoordinator({ dialect: "gitlab", tokenLifeSeconds: 86_400 });
  onTestFinished(() => gitlab.close());
  const entries = more.map(
    (lines, index) =>
      `[[runners]]\n  name = "r${index}"\n  url = "${gitlab.url}"\n  token = "${gitlab.addRunner().token}"\n  executor = "shell"\n${lines}\n`,
  );
  const dir = await makeDir();
  const file = join(dir, "config.toml");
  const before = `state_dir = "state"\n${entries.join("")}`;
  await write(file, before);
  const printed: string[] = [];
  const context: CommandContext = {
    env: { HOME: dir },
    cwd: dir,
    uid: 1000,
    catalog: createCatalog(),
    coordinator: testDeps(),
    output: new Writable(),
    print: (text) => void printed.push(text),
    say: () => {},
    signal: never,
  };
  const reset = async (values: Readonly<Record<string, unknown>>): Promise<string> =>
    await resetTokenCommand({ config: file, ...values }, context).then(
      () => "",
      (error: Error) => `${error.name}: ${error.message}`,
    );
  const tokens = async (): Promise<string[]> =>
    [...(await readFile(file, "utf8")).matchAll(/ token = "(.*)"/g)].map(([, token = ""]) => token);
  return { gitlab, file, before, printed, reset, tokens };
}

const UNUSABLE = '  limit = "two"';

test("an entry that cannot be used keeps no other from its new token, and is named", async () => {
  const { gitlab, printed, reset, tokens } = await setUp(["", UNUSABLE, ""]);
  const old = await tokens();
  const failure = await reset({ allRunners: true });
  expect(failure).toMatch(/^CommandError: "r1" cannot be used: .*config\.toml:\d+: .*limit.*Mend it first/);
  expect(failure).not.toMatch(/r0|r2|glrt-/);
  expect(printed).toEqual([expect.stringContaining('"r0"'), expect.stringContaining('"r2"')]);
  const fresh = await tokens();
  expect(fresh).toEqual([gitlab.runners[0]?.token, old[1], gitlab.runners[2]?.token]);
  expect(fresh[0]).not.toBe(old[0]);
  expect(fresh[2]).not.toBe(old[2]);
});

test("where no entry can be used, all are named, and none is asked for", async () => {
  const { gitlab, file, before, reset } = await setUp([UNUSABLE, UNUSABLE]);
  const failure = await reset({ allRunners: true });
  expect(failure.split("\n")).toEqual([expect.stringContaining('"r0"'), expect.stringContaining('"r1"')]);
  expect(gitlab.requests).toEqual([]);
  expect(await readFile(file, "utf8")).toBe(before);
});

test("one that is meant and cannot be used is refused", async () => {
  const { file, before, reset } = await setUp(["", UNUSABLE]);
  expect(await reset({ name: "r1" })).toMatch(/"r1" cannot be used.*nothing was changed$/);
  expect(await readFile(file, "utf8")).toBe(before);
});
