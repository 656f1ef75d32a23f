import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, lstat, mkdir, readdir, readFile, readlink, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { lockFile } from "../../src/config/file/lock.ts";
import { addRunner, type NewRunner, readRunners, removeRunners, setRunnerKeys } from "../../src/config/file/save.ts";
import { never } from "../../src/time.ts";
import { entry, makeDir, write } from "./support.ts";

const unix = process.platform !== "win32";
const SAVE = fileURLToPath(new URL("../../src/config/file/save.ts", import.meta.url));
const TIME = fileURLToPath(new URL("../../src/time.ts", import.meta.url));

function runner(token: string): NewRunner {
  return { name: `runner ${token}`, url: "https://ci.example.com/", token, executor: "shell", cache: {} };
}

const tokens = async (file: string): Promise<string[]> => (await readRunners(file, {})).map((each) => each.token);

/** Starts a process that adds an entry for each token that it is given. */
function adder(
  file: string,
  list: readonly string[],
  prefix = "",
): { pid: number; ended: Promise<{ code: number | null; text: string }> } {
  const program = `const { addRunner } = await import(${JSON.stringify(SAVE)}); const { never } = await import(${JSON.stringify(TIME)});
    for (const token of ${JSON.stringify(list)}) await addRunner(${JSON.stringify(file)}, { name: "p", url: "http://h", token, executor: "shell" }, never);`;
  const child = spawn(
    "bash",
    ["-c", `${prefix} exec "$0" --no-warnings --input-type=module -e "$1"`, process.execPath, program],
    {
      stdio: ["ignore", "ignore", "pipe"],
    },
  );
  let text = "";
  child.stderr.on("data", (chunk) => {
    text += chunk;
  });
  const ended = once(child, "close").then(([code]: unknown[]) => ({
    code: typeof code === "number" ? code : null,
    text,
  }));
  return { pid: child.pid ?? 0, ended };
}

describe("adding", () => {
  test("file and directory are made for their owner alone", async () => {
    const file = join(await makeDir(), "a", "b", "config.toml");
    await addRunner(file, runner("t1"), never);
    expect(await tokens(file)).toEqual(["t1"]);
    if (unix) {
      expect((await stat(file)).mode & 0o777).toBe(0o600);
      expect((await stat(join(file, ".."))).mode & 0o777).toBe(0o700);
    }
    expect(await readdir(join(file, ".."))).toEqual(["config.toml"]);
  });

  test.runIf(unix).each([
    [0o644, 0o600],
    [0o666, 0o600],
    [0o640, 0o640],
    [0o600, 0o600],
    [0o400, 0o400],
    [0o660, 0o600],
  ])("mode %o becomes %o", async (before, after) => {
    const file = join(await makeDir(), "config.toml");
    await write(file, entry(), before);
    await addRunner(file, runner("t2"), never);
    expect((await stat(file)).mode & 0o777).toBe(after);
  });

  test.runIf(unix)("a link stays a link, also one to nowhere yet", async () => {
    const dir = await makeDir();
    await mkdir(join(dir, "real"));
    await symlink("real/b.toml", join(dir, "a.toml"));
    await symlink("a.toml", join(dir, "config.toml"));
    for (const token of ["t1", "t2"]) await addRunner(join(dir, "config.toml"), runner(token), never);
    expect(await readlink(join(dir, "config.toml"))).toBe("a.toml");
    expect((await lstat(join(dir, "real/b.toml"))).isFile()).toBe(true);
    expect(await tokens(join(dir, "config.toml"))).toEqual(["t1", "t2"]);
    expect(await readdir(join(dir, "real"))).toEqual(["b.toml"]);
  });

  test.runIf(unix && process.getuid?.() === 0)("the owner stays", async () => {
    const file = join(await makeDir(), "config.toml");
    await write(file, entry());
    const { chown } = await import("node:fs/promises");
    await chown(file, 12_345, 23_456);
    await addRunner(file, runner("t2"), never);
    expect(await stat(file)).toMatchObject({ uid: 12_345, gid: 23_456 });
  });

  test("ten in this process and ten processes at once all win", async () => {
    const file = join(await makeDir(), "config.toml");
    await write(file, `# mine\n${entry("", "old")}`);
    const others = Array.from({ length: 10 }, (_, index) => adder(file, [`p${index}`]));
    await Promise.all(Array.from({ length: 10 }, (_, index) => addRunner(file, runner(`t${index}`), never)));
    for (const other of others) expect(await other.ended).toEqual({ code: 0, text: "" });
    const all = await tokens(file);
    expect(all).toHaveLength(21);
    expect(new Set(all).size).toBe(21);
    expect(await readFile(file, "utf8")).toMatch(/^# mine\n/);
    expect(await readdir(join(file, ".."))).toEqual(["config.toml"]);
  });

  test("a file with an error in it is refused and left alone", async () => {
    const file = join(await makeDir(), "config.toml");
    const text = `${entry()}name = "twice"\n`;
    await write(file, text);
    await expect(addRunner(file, runner("t"), never)).rejects.toThrow(/config\.toml:7: not valid TOML: .*already set/);
    expect(await readFile(file, "utf8")).toBe(text);
    expect(await readdir(join(file, ".."))).toEqual(["config.toml"]);
  });

  test("a layout that cannot be extended is refused and left alone", async () => {
    const file = join(await makeDir(), "config.toml");
    const text = '[[runners]]\nname="a"\n[[Runners]]\nname="b"\n';
    await write(file, text);
    await expect(addRunner(file, runner("t"), never)).rejects.toThrow(/must be a list of tables/);
    await write(file, "[runners]\nname = 'a'\n");
    await expect(addRunner(file, runner("t"), never)).rejects.toThrow(/must be a list of tables/);
  });
});

describe("faults", () => {
  test.runIf(unix)("a disk that takes no more leaves the old file and says so", async () => {
    const file = join(await makeDir(), "config.toml");
    const text = `${"# padding\n".repeat(500)}${entry("", "old")}`;
    await write(file, text);
    const { code, text: errors } = await adder(file, ["new"], "trap '' XFSZ; ulimit -f 2;").ended;
    expect(code).not.toBe(0);
    expect(errors).toMatch(/config\.toml: cannot write the new version .*\(EFBIG\)\. Nothing was changed/);
    expect(await readFile(file, "utf8")).toBe(text);
    expect(await readdir(join(file, ".."))).toEqual(["config.toml"]);
  });

  test("a path through a file, and a directory in its place, are named", async () => {
    const dir = await makeDir();
    await writeFile(join(dir, "plain"), "");
    await expect(addRunner(join(dir, "plain", "config.toml"), runner("t"), never)).rejects.toMatchObject({
      name: "ConfigError",
      message: expect.stringContaining(`cannot make the directory ${join(dir, "plain")}`),
    });
    await mkdir(join(dir, "config.toml"));
    await expect(addRunner(join(dir, "config.toml"), runner("t"), never)).rejects.toThrow(/is a directory/);
    expect((await readdir(dir)).sort()).toEqual(["config.toml", "plain"]);
  });

  test.runIf(unix)("a directory that cannot be written is named", async () => {
    // Root may write everywhere, so tests that need a refusal use a place where nothing can be written.
    const isRoot = process.getuid?.() === 0;
    const dir = isRoot ? "/proc/self" : await makeDir();
    if (!isRoot) await chmod(dir, 0o500);
    await expect(addRunner(join(dir, "config.toml"), runner("t"), never)).rejects.toThrow(
      new RegExp(`${isRoot ? "" : dir}.*(EACCES|ENOENT|EPERM)`),
    );
    if (!isRoot) await chmod(dir, 0o700);
  });

  test.runIf(unix)("writers that are killed anywhere leave a whole file, and the next one goes on", async () => {
    const file = join(await makeDir(), "config.toml");
    await write(file, `# mine\n${entry("", "old")}`);
    let seen = 1;
    for (let round = 0; round < 12; round++) {
      const list = Array.from({ length: 400 }, (_, index) => `r${round}-${index}`);
      const before = (await readRunners(file, {})).length;
      const { pid, ended } = adder(file, list);
      // Waits until the process is at work, so that the kill comes at another part of a millisecond each time.
      while ((await readRunners(file, {})).length === before) await new Promise((resolve) => setTimeout(resolve, 1));
      for (const until = performance.now() + round * 0.7; performance.now() < until; );
      process.kill(pid, "SIGKILL");
      await ended;
      const all = await tokens(file);
      expect(all[0]).toBe("old");
      expect(all.length).toBeGreaterThan(seen);
      seen = all.length;
    }
    await addRunner(file, runner("last"), never);
    expect((await tokens(file)).at(-1)).toBe("last");
    expect(await readdir(join(file, ".."))).toEqual(["config.toml"]);
  });

  test("a lock whose holder lives is waited for, and named in the end", async () => {
    const path = join(await makeDir(), ".lock");
    await using lock = await lockFile(path, {}, never);
    expect(await lock.held()).toBe(true);
    await expect(lockFile(path, { patienceMs: 60 }, never)).rejects.toThrow(
      `has been held by process ${process.pid} for 0.06 s`,
    );
    await expect(lockFile(path, {}, AbortSignal.abort(new Error("enough")))).rejects.toThrow("enough");
  });

  test("of many that find a dead one's lock one at a time gets it", async () => {
    const path = join(await makeDir(), ".lock");
    await writeFile(
      path,
      JSON.stringify({ pid: 2 ** 22 + 7, started: "1", host: (await import("node:os")).hostname(), id: "x" }),
    );
    let inside = 0;
    let most = 0;
    await Promise.all(
      Array.from({ length: 20 }, async () => {
        await using lock = await lockFile(path, {}, never);
        most = Math.max(most, ++inside);
        await new Promise((resolve) => setTimeout(resolve, 2));
        expect(await lock.held()).toBe(true);
        inside--;
      }),
    );
    expect(most).toBe(1);
    expect(await readdir(join(path, ".."))).toEqual([]);
  });
});

describe("removing", () => {
  test("picks by what stands in the file, variables put in", async () => {
    const file = join(await makeDir(), "config.toml");
    const text = `# head\n\n${entry("", "a")}${entry("", "$TOKEN")}${entry("limit = 'wrong type'", "c")}`;
    await write(file, text);
    const removed = await removeRunners(file, (each) => each.token === "b", { TOKEN: "b" }, never);
    expect(removed).toMatchObject([
      { index: 1, name: "a", url: "https://ci.example.com/", token: "b", executor: "shell" },
    ]);
    expect(await readFile(file, "utf8")).toBe(`# head\n\n${entry("", "a")}${entry("limit = 'wrong type'", "c")}`);
  });

  test("an entry without a name is called by its id, as elsewhere", async () => {
    const file = join(await makeDir(), "config.toml");
    await write(file, '[[runners]]\ntoken = "abcdefgh"\n');
    expect(await readRunners(file, {})).toMatchObject([
      { index: 0, name: "9c56cc51", id: "9c56cc51", url: "", token: "abcdefgh", executor: "" },
    ]);
  });

  test("nothing to remove touches nothing", async () => {
    const file = join(await makeDir(), "config.toml");
    await write(file, entry(), 0o644);
    const { mtimeMs, ino } = await stat(file);
    expect(await removeRunners(file, () => false, {}, never)).toEqual([]);
    expect(await stat(file)).toMatchObject({ mtimeMs, ino });
  });

  test("a missing file stays missing", async () => {
    const file = join(await makeDir(), "config.toml");
    expect(await removeRunners(file, () => true, {}, never)).toEqual([]);
    expect(await readRunners(file, {})).toEqual([]);
    await expect(stat(file)).rejects.toThrow(/ENOENT/);
    const deep = join(file, "..", "not", "there", "config.toml");
    expect(await removeRunners(deep, () => true, {}, never)).toEqual([]);
    expect(await readdir(join(file, ".."))).toEqual([]);
  });
});

describe("setting keys", () => {
  test("in the entries that are meant; a file with none of them is not touched", async () => {
    const text = `# ours\n${entry("token_expires_at = 0001-01-01T00:00:00Z # never\n")}`;
    const file = join(await makeDir(), "config.toml");
    await write(file, `${text}\n${text}`);
    const before = await stat(file);
    expect(await setRunnerKeys(file, () => null, {}, never)).toEqual([]);
    expect((await stat(file)).ino).toBe(before.ino);
    const at = new Date("2027-05-06T07:08:09Z");
    const changed = await setRunnerKeys(
      file,
      ({ index }) => (index === 1 ? { token_expires_at: at } : null),
      {},
      never,
    );
    expect(changed.map(({ index, written, keys }) => [index, written, keys.has("token_expires_at")])).toEqual([
      [1, true, true],
    ]);
    expect(await readFile(file, "utf8")).toBe(
      `${text}\n${text.replace("0001-01-01T00:00:00Z # never", "2027-05-06T07:08:09Z # never")}`,
    );
  });

  test("a token that a variable gives is told from one that stands in the file", async () => {
    const file = join(await makeDir(), "config.toml");
    await write(file, entry().replace("secret-token", "$TOKEN"));
    const [stored] = await readRunners(file, { TOKEN: "glrt-x" });
    expect(stored).toMatchObject({ token: "glrt-x", written: false });
  });
});
