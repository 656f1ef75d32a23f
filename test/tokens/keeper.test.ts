import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import type { Config } from "../../src/config/config.ts";
import { loadConfig } from "../../src/config/load.ts";
import { startCoordinator } from "../../src/local/coordinator/coordinator.ts";
import { never } from "../../src/time.ts";
import { finishExchanges } from "../../src/tokens/exchange.ts";
import { createExchanges } from "../../src/tokens/exchanges.ts";
import { createTokenKeeper } from "../../src/tokens/keeper.ts";
import { openNotes } from "../../src/tokens/notes.ts";
import { keeperTiming } from "../../src/tokens/standing.ts";
import { makeDir, parseOptions, write } from "../config/support.ts";
import { info, testDeps } from "../coordinator/server.ts";
import { type LogLine, recordingLog } from "../job/stand.ts";

const DAY = 86_400_000;
const iso = (ms: number): string => `${new Date(ms).toISOString().slice(0, 19)}Z`;
/** Given out yesterday, and dead in an hour. */
const DUE = { obtained: -DAY, expires: DAY / 24 };

interface Wish {
  /** From now, ms; `null`: the key is not there. */
  readonly obtained?: number | null;
  readonly expires?: number | null;
  readonly lines?: string;
  readonly token?: string;
}

/** One GitLab with one runner, a file with entries of its token, and what looks after it. */
async function setUp(wishes: readonly Wish[] = [DUE], { env = {} }: { env?: Record<string, string> } = {}) {
  const local = await startCoordinator({ dialect: "gitlab", tokenLifeSeconds: 4 * 86_400 });
  onTestFinished(() => local.close());
  const now = Date.now();
  const [first = {}] = wishes;
  const said =
    first.expires === undefined || first.expires === null ? null : new Date(now + first.expires).toISOString();
  const runner = local.addRunner({ tokenExpiresAt: said });
  const old = runner.token;
  const time = (key: string, ms: number | null | undefined): string =>
    ms === null || ms === undefined ? "" : `  ${key} = ${iso(now + ms)} # ${key}\n`;
  const text = wishes
    .map(
      ({ obtained, expires, lines = "", token = old }, index) =>
        `# entry ${index}\n[[runners]]\n  name = "r${index}"\n  url = "${local.url}" # here\n  token = "${token}" # secret\n  executor = "shell"\n${time("token_obtained_at", obtained)}${time("token_expires_at", expires)}${lines}\n`,
    )
    .join("\n");
  const dir = await makeDir();
  const file = join(dir, "config.toml");
  await write(file, text);
  const notes = openNotes(join(dir, "tokens"));
  const logged: LogLine[] = [];
  const load = async (exchanges = createExchanges()): Promise<Config> =>
    await loadConfig(file, {
      ...parseOptions({ env: { ...env, TOKEN: old } }),
      usualConfigFile: file,
      exchanged: exchanges.latest,
    });
  const exchanges = createExchanges();
  const reloaded = Promise.withResolvers<void>();
  const saved: boolean[] = [];
  const deps = {
    file,
    env: { ...env, TOKEN: old },
    notes,
    exchanges,
    onSaved: (well: boolean) => void saved.push(well),
  };
  const keep = (timing = keeperTiming) => {
    const keeper = createTokenKeeper({
      ...deps,
      coordinator: testDeps({ systemId: "s_0123456789ab" }),
      about: () => ({ info, onRequest: () => {} }),
      onExchanged: reloaded.resolve,
      log: recordingLog(logged),
      timing,
    });
    onTestFinished(() => keeper.close(never));
    return keeper;
  };
  const said403 = (pattern: RegExp) => logged.filter(({ message }) => pattern.test(message));
  return {
    local,
    runner,
    old,
    file,
    text,
    dir,
    notes,
    exchanges,
    deps,
    logged,
    said: said403,
    load,
    keep,
    exchanged: reloaded.promise,
    saved,
  };
}

type Setting = Awaited<ReturnType<typeof setUp>>;

const requestsTo = ({ local }: Setting, endpoint: string) => local.requests.filter((one) => one.endpoint === endpoint);

test("three quarters through its life a token is exchanged, in all its entries, and nothing else of the file is touched", async () => {
  const setting = await setUp([DUE, { ...DUE, lines: "  limit = 3\n" }]);
  const { runner, old, file, text, exchanged, logged, load } = setting;
  const keeper = setting.keep();
  await keeper.take(await load());
  await exchanged;
  expect(requestsTo(setting, "reset_token")).toHaveLength(1);
  expect(runner.token).not.toBe(old);
  const fresh = await readFile(file, "utf8");
  const config = await load();
  const [life] = config.runners.map(({ tokenLife }) => tokenLife);
  const known = /known_as = "([0-9a-f]{8})"/.exec(fresh)?.[1];
  expect(
    fresh
      .replaceAll(runner.token, old)
      .replace(/ {2}known_as = "[0-9a-f]{8}"\n/g, "")
      .replace(/token_(\w+)_at = \S+/g, "token_$1_at = T"),
  ).toBe(text.replace(/token_(\w+)_at = \S+/g, "token_$1_at = T"));
  // Names of directories, labels and metrics stay.
  expect(config.runners.map(({ id }) => id)).toEqual([known, known]);
  expect((await setting.load(setting.exchanges)).runners.map(({ token }) => token)).toEqual([
    runner.token,
    runner.token,
  ]);
  expect(Math.round(((life?.expiresAtMs ?? 0) - (life?.obtainedAtMs ?? 0)) / DAY)).toBe(4);
  expect(await setting.notes.isEmpty()).toBe(true);
  expect(keeper.isChanging({ url: config.runners[0]?.url ?? new URL("http://x"), token: old })).toBe(true);
  expect(keeper.expiries.map(({ name }) => name)).toEqual(["r0", "r1"]);
  expect(JSON.stringify(logged)).not.toMatch(new RegExp(`${old}|${runner.token}`));
  expect(setting.said(/was exchanged/)[0]?.fields?.runner).toBe(known);
  // The reload that follows finds nothing to do.
  await keeper.take(await load());
  expect(requestsTo(setting, "reset_token")).toHaveLength(1);
});

test("how long a token lives is asked once, with what the runner can do, and written down", async () => {
  const setting = await setUp([{ obtained: null, expires: null }]);
  setting.runner.tokenExpiresAt = new Date(Date.now() + 10 * DAY).toISOString();
  const keeper = setting.keep();
  await keeper.take(await setting.load());
  await expect.poll(async () => (await setting.load()).runners[0]?.tokenLife.expiresAtMs ?? null).not.toBeNull();
  expect(keeper.expiries).toHaveLength(1);
  const [asked] = requestsTo(setting, "verify");
  expect(JSON.parse(String(asked?.body))).toMatchObject({
    system_id: "s_0123456789ab",
    info: { features: { cancel_gracefully: true } },
  });
  const text = await readFile(setting.file, "utf8");
  expect(text).toMatch(/token = ".*" # secret\n {2}token_obtained_at = .*Z\n {2}token_expires_at = .*Z\n/);
  expect(text).not.toContain("known_as");
  await keeper.take(await setting.load());
  expect(requestsTo(setting, "verify")).toHaveLength(1);
  expect(requestsTo(setting, "reset_token")).toHaveLength(0);
});

test.each([
  ["a variable", { ...DUE, token: "$TOKEN" }, "names a variable", 1],
  ["rotate_token", { ...DUE, lines: "  rotate_token = false\n" }, "rotate_token is false", 1],
  [
    "the feature flag",
    { ...DUE, lines: "  [runners.feature_flags]\n    FF_DISABLE_AUTOMATIC_TOKEN_ROTATION = true\n" },
    "FF_DISABLE_AUTOMATIC_TOKEN_ROTATION is set",
    1,
  ],
  ["a variable, with much time left", { obtained: 0, expires: 10 * DAY, token: "$TOKEN" }, "names a variable", 1],
  ["rotate_token, with much time left", { obtained: 0, expires: 10 * DAY, lines: "  rotate_token = false\n" }, "", 0],
] as const)("a token is not exchanged because of %s: that is said, with the date", async (_, wish, why, warnings) => {
  const setting = await setUp([wish]);
  const keeper = setting.keep();
  await keeper.take(await setting.load());
  await expect.poll(() => requestsTo(setting, "verify").length).toBe(1);
  await expect.poll(() => setting.said(/is not exchanged/).length).toBe(warnings);
  if (warnings > 0) {
    // The file has whole seconds.
    const expires = expect.stringContaining(setting.runner.tokenExpiresAt?.slice(0, 19) ?? "never");
    expect(setting.said(/is not exchanged/)[0]).toMatchObject({
      level: "warn",
      fields: { name: "r0", expires, problem: expect.stringContaining(why) },
    });
  }
  await keeper.take(await setting.load());
  expect(setting.said(/is not exchanged/)).toHaveLength(warnings);
  expect(requestsTo(setting, "reset_token")).toHaveLength(0);
  expect(await readFile(setting.file, "utf8")).toBe(setting.text);
});

test("an expired token that is refused is one error, and tried again with pauses", async () => {
  const setting = await setUp([{ obtained: -10 * DAY, expires: -DAY }]);
  setting.local.intercept = ({ endpoint }) =>
    endpoint === "reset_token" ? { kind: "status", status: 403 } : undefined;
  await setting.keep({ ...keeperTiming, firstMs: 10, mostMs: 20 }).take(await setting.load());
  await expect.poll(() => requestsTo(setting, "reset_token").length).toBeGreaterThan(2);
  const errors = setting.logged.filter(({ level }) => level === "error");
  expect(errors.map(({ message }) => message)).toEqual([
    expect.stringContaining("has expired and cannot be exchanged"),
  ]);
  expect(await readdir(join(setting.dir, "tokens"))).toEqual(
    expect.not.arrayContaining([expect.stringMatching(/json$/)]),
  );
  expect(await readFile(setting.file, "utf8")).toBe(setting.text);
});

test("a new configuration sets the time anew", async () => {
  const setting = await setUp([{ obtained: -DAY, expires: 10 * DAY }]);
  const { runner, file, load } = setting;
  const keeper = setting.keep();
  await keeper.take(await load());
  await expect.poll(() => requestsTo(setting, "verify").length).toBe(1);
  const before = await load();
  // What somebody wrote into the file while the runner waited.
  const sooner = {
    ...before,
    runners: before.runners.map((one) => ({
      ...one,
      tokenLife: { ...one.tokenLife, obtainedAtMs: Date.now() - 100 * DAY },
    })),
  };
  await keeper.take(sooner);
  await setting.exchanged;
  expect(await readFile(file, "utf8")).toContain(runner.token);
});

test("without room for the new token it is not asked for", async () => {
  const setting = await setUp();
  const notes = openNotes("/dev/null/tokens");
  const keeper = createTokenKeeper({
    ...setting.deps,
    notes,
    coordinator: testDeps(),
    about: () => ({ info, onRequest: () => {} }),
    onExchanged: () => {},
    log: recordingLog(setting.logged),
  });
  onTestFinished(() => keeper.close(never));
  await keeper.take(await setting.load());
  await expect.poll(() => setting.said(/cannot be exchanged/).length).toBe(1);
  expect(String(setting.said(/cannot be exchanged/)[0]?.fields?.problem)).toContain("was not asked for");
  expect(requestsTo(setting, "reset_token")).toHaveLength(0);
});

test("a token that could not be put into the file is used all the same, and put there at the next start", async () => {
  const setting = await setUp();
  const { runner, old, file, load, notes } = setting;
  const deps = { ...setting.deps, file: "/dev/null/config.toml" };
  const keeper = createTokenKeeper({
    ...deps,
    coordinator: testDeps(),
    about: () => ({ info, onRequest: () => {} }),
    onExchanged: () => setting.deps.onSaved(true),
    log: recordingLog(setting.logged),
  });
  onTestFinished(() => keeper.close(never));
  await keeper.take(await load());
  await expect.poll(() => setting.said(/not in the configuration yet/).length).toBe(1);
  expect(await readFile(file, "utf8")).toBe(setting.text);
  expect((await load(setting.exchanges)).runners[0]?.token).toBe(runner.token);
  // The next process.
  const exchanges = createExchanges();
  const told: string[] = [];
  const say = {
    finished: () => told.push("finished"),
    unsaved: () => told.push("unsaved"),
    broken: () => told.push("broken"),
  };
  expect(await finishExchanges({ ...setting.deps, exchanges }, say)).toBe(true);
  expect(told).toEqual(["finished"]);
  const config = await load();
  expect(config.runners[0]?.token).toBe(runner.token);
  expect(config.runners[0]?.id).toBe((await load(exchanges)).runners[0]?.id);
  expect(await readFile(file, "utf8")).not.toContain(old);
  expect(await notes.isEmpty()).toBe(true);
  expect(await finishExchanges({ ...setting.deps, exchanges }, say)).toBe(false);
});
