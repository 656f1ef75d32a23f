import { EventEmitter, once } from "node:events";
import { appendFile, mkdir, rename, rm, symlink, unlink, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { addRunner } from "../../src/config/file/save.ts";
import { type ConfigChange, type ConfigWatch, type WatchOptions, watchConfig } from "../../src/config/file/watch.ts";
import { loadConfig } from "../../src/config/load.ts";
import { problemLine } from "../../src/errors.ts";
import { deadline, never } from "../../src/time.ts";
import { createCatalog, entry, makeDir, write } from "./support.ts";

const unix = process.platform !== "win32";
const QUICK: WatchOptions = { settleMs: 20, slowSettleMs: 250, lookEveryMs: 600 };

interface Watching {
  readonly watch: ConfigWatch;
  /** Resolves when the file has been loaded `count` times more. */
  loaded(count: number): Promise<void>;
  /** Resolves with the next change: `concurrent` of a good file, the first line of an error. */
  next(): Promise<number | string>;
  stop(): Promise<void>;
}

/** Watch a file that has been loaded, as `run` does. */
async function start(file: string, options: WatchOptions = QUICK): Promise<Watching> {
  const loads = new EventEmitter();
  const load = () => {
    loads.emit("load");
    return loadConfig(file, {
      catalog: createCatalog(),
      env: {},
      workingDirectory: "/",
      certsDir: "/nowhere",
      defaultStateDir: "/nowhere",
      usualConfigFile: "/nowhere/config.toml",
    });
  };
  const stopping = new AbortController();
  const watch = watchConfig(file, load, stopping.signal, { ...options, current: await load() });
  const changes = watch[Symbol.asyncIterator]();
  const stop = async (): Promise<void> => {
    stopping.abort();
    await changes.return?.();
  };
  onTestFinished(stop);
  let ahead: Promise<IteratorResult<ConfigChange>> = changes.next();
  return {
    watch,
    stop,
    async loaded(count) {
      for (let left = count; left > 0; left--) await once(loads, "load");
    },
    async next() {
      using limit = deadline(never, 20_000, new Error("no change was noticed"));
      const late = new Promise<never>((_, reject) => {
        limit.signal.addEventListener("abort", () => reject(limit.signal.reason), { once: true });
      });
      const { value, done } = await Promise.race([ahead, late]);
      ahead = changes.next();
      if (done || value === undefined) return "ended";
      if ("error" in value) return String(value.error);
      const { broken, concurrent } = value.config;
      return broken.length === 0 ? concurrent : broken.flatMap(({ problems }) => problems.map(problemLine)).join("\n");
    },
  };
}

const version = (concurrent: number): string => `concurrent = ${concurrent}\n${entry()}`;

async function firstVersion(): Promise<{ dir: string; file: string }> {
  const dir = await makeDir();
  const file = join(dir, "config.toml");
  await write(file, version(1));
  return { dir, file };
}

/** Put a whole file in place, as editors and tools do. */
async function replace(file: string, text: string): Promise<void> {
  await writeFile(`${file}.new`, text, { mode: 0o600 });
  await rename(`${file}.new`, file);
}

describe("what is noticed", () => {
  test("a replaced file, and then the next one", async () => {
    const { file } = await firstVersion();
    const { next } = await start(file);
    for (const concurrent of [2, 3, 4]) {
      await replace(file, version(concurrent));
      expect(await next()).toBe(concurrent);
    }
  });

  test("a file written in place", async () => {
    const { file } = await firstVersion();
    const { next } = await start(file);
    await writeFile(file, version(2));
    expect(await next()).toBe(2);
    await appendFile(file, "# more\n");
    expect(await next()).toBe(2);
  });

  test("an older date and the same size", async () => {
    const { file } = await firstVersion();
    const { next } = await start(file);
    await writeFile(file, version(2));
    await utimes(file, new Date(1000), new Date(1000));
    expect(await next()).toBe(2);
    await replace(file, version(3));
    await utimes(file, new Date(1000), new Date(1000));
    expect(await next()).toBe(3);
  });

  test("a change between loading and watching", async () => {
    const { file } = await firstVersion();
    const load = start(file);
    const { next } = await load;
    await replace(file, version(2));
    expect(await next()).toBe(2);
  });

  test.runIf(unix)("a link that leads elsewhere, and changes where it leads", async () => {
    const { dir } = await firstVersion();
    await mkdir(join(dir, "a"));
    await mkdir(join(dir, "b"));
    await write(join(dir, "a", "c.toml"), version(1));
    await write(join(dir, "b", "c.toml"), version(2));
    await symlink("a/c.toml", join(dir, "link.toml"));
    const { next } = await start(join(dir, "link.toml"));
    await symlink("b/c.toml", join(dir, "link.new"));
    await rename(join(dir, "link.new"), join(dir, "link.toml"));
    expect(await next()).toBe(2);
    await replace(join(dir, "b", "c.toml"), version(3));
    expect(await next()).toBe(3);
  });

  test.runIf(unix)("a directory that is exchanged above the file, as Kubernetes does", async () => {
    const { dir } = await firstVersion();
    for (const concurrent of [1, 2]) {
      await mkdir(join(dir, `..v${concurrent}`));
      await write(join(dir, `..v${concurrent}`, "c.toml"), version(concurrent));
    }
    await symlink("..v1", join(dir, "..data"));
    await symlink("..data/c.toml", join(dir, "c.toml"));
    const { next } = await start(join(dir, "c.toml"));
    await symlink("..v2", join(dir, "..next"));
    await rename(join(dir, "..next"), join(dir, "..data"));
    await rm(join(dir, "..v1"), { recursive: true });
    expect(await next()).toBe(2);
  });

  test("a file that did not exist at first, nor its directory", async () => {
    const dir = await makeDir();
    const file = join(dir, "sub", "config.toml");
    const { next } = await start(file);
    await mkdir(join(dir, "sub"));
    await write(file, version(5));
    expect(await next()).toBe(5);
  });

  test("what register writes", async () => {
    const { file } = await firstVersion();
    const { next } = await start(file);
    await addRunner(file, { name: "b", url: "http://h", token: "t2", executor: "shell" }, never);
    expect(await next()).toBe(1);
  });
});

describe("what is said once", () => {
  test("a broken version, the next broken one, and the good one after them", async () => {
    const { file } = await firstVersion();
    const { next } = await start(file);
    await replace(file, "concurrent = 0\n");
    expect(await next()).toContain("does not mean unlimited");
    await replace(file, "concurrent = \n");
    expect(await next()).toContain("not valid TOML");
    await replace(file, version(1));
    expect(await next()).toBe(1);
  });

  test("looks without a change bring nothing", async () => {
    const { file } = await firstVersion();
    const { next, loaded } = await start(file, { ...QUICK, lookEveryMs: 5 });
    await replace(file, "nonsense");
    expect(await next()).toContain("not valid TOML");
    const silent = next();
    await loaded(10);
    await utimes(file, new Date(), new Date());
    await loaded(10);
    await replace(file, version(8));
    expect(await silent).toBe(8);
  });

  test("a file that vanished, and that it is back", async () => {
    const { file } = await firstVersion();
    const { next } = await start(file);
    await unlink(file);
    expect(await next()).toContain("config.toml is gone. The configuration read from it before stays in force");
    await write(file, version(1));
    expect(await next()).toBe(1);
    await unlink(file);
    expect(await next()).toContain("is gone");
  });

  test("removed and written anew at once is one change", async () => {
    const { file } = await firstVersion();
    const { next } = await start(file);
    await unlink(file);
    await write(file, version(6));
    expect(await next()).toBe(6);
  });

  test("a file whose writing takes a while is taken when it is whole", async () => {
    const { file } = await firstVersion();
    const { next } = await start(file, { ...QUICK, slowSettleMs: 400 });
    const text = `${version(9)}${entry("", "t2")}`;
    await writeFile(file, "");
    for (let from = 0; from < text.length; from += 40) {
      await appendFile(file, text.slice(from, from + 40));
      await new Promise((resolve) => setTimeout(resolve, 60));
    }
    expect(await next()).toBe(9);
  });

  test("an error that goes away without a change of the file is taken back", async () => {
    const { dir, file } = await firstVersion();
    const { next } = await start(file);
    await replace(file, version(2).replace("executor", `tls-ca-file = "${join(dir, "ca.pem")}"\nexecutor`));
    expect(await next()).toContain("ca.pem cannot be read");
    await writeFile(join(dir, "ca.pem"), "x");
    expect(await next()).toBe(2);
  });
});

test("an entry that was broken from the first is looked at again without a change of the file", async () => {
  const { dir, file } = await firstVersion();
  await write(file, version(3).replace("executor", `tls-ca-file = "${join(dir, "ca.pem")}"\nexecutor`));
  const { next } = await start(file);
  await writeFile(join(dir, "ca.pem"), "x");
  expect(await next()).toBe(3);
});

describe("reload", () => {
  test("loads without a change, also a file that is broken or gone", async () => {
    const { file } = await firstVersion();
    const { watch, next } = await start(file);
    watch.reload();
    expect(await next()).toBe(1);
    await replace(file, "nonsense");
    watch.reload();
    expect(await next()).toContain("not valid TOML");
    watch.reload();
    expect(await next()).toContain("not valid TOML");
    await unlink(file);
    watch.reload();
    expect(await next()).toContain("is gone");
  });
});

describe("ending", () => {
  test("the signal ends it", async () => {
    const { file } = await firstVersion();
    const { next, stop } = await start(file);
    const waiting = next();
    await stop();
    expect(await waiting).toBe("ended");
  });
});
