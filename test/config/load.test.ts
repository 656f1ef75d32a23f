import { execFileSync } from "node:child_process";
import { mkdir, symlink, truncate } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { runnerId } from "../../src/config/identity.ts";
import { type LoadOptions, loadConfig } from "../../src/config/load.ts";
import { defaultCertsDir, defaultConfigFile, defaultStateDir } from "../../src/config/locations.ts";
import { problemLine } from "../../src/errors.ts";
import { createCatalog, entry, makeDir, write } from "./support.ts";

const unix = process.platform !== "win32";

function options(workingDirectory: string, more: Partial<LoadOptions> = {}): LoadOptions {
  return {
    catalog: createCatalog(),
    env: {},
    workingDirectory,
    certsDir: "/etc/alloy-runner/certs",
    defaultStateDir: "/var/lib/alloy-runner",
    usualConfigFile: "/etc/alloy-runner/config.toml",
    ...more,
  };
}

describe("loading", () => {
  test("a missing file is an empty configuration that says so", async () => {
    const dir = await makeDir();
    const config = await loadConfig("config.toml", options(dir));
    expect(config.runners).toEqual([]);
    expect(config.file).toBe(join(dir, "config.toml"));
    expect(config.warnings).toEqual([expect.stringContaining(`${join(dir, "config.toml")} does not exist`)]);
    expect(config.textDigest).toBeUndefined();
  });

  test("the command line wins over the file", async () => {
    const dir = await makeDir();
    await write(join(dir, "c.toml"), 'user = "u"\nstate_dir = "/s"\n');
    expect(await loadConfig("c.toml", options(dir))).toMatchObject({ user: "u", stateDir: "/s", warnings: [] });
    const more = { userOverride: "v", stateDirOverride: "here" };
    expect(await loadConfig("c.toml", options(dir, more))).toMatchObject({ user: "v", stateDir: join(dir, "here") });
  });

  test("the default state directory is that of the default file; each other file has a part of it", async () => {
    const dir = await makeDir();
    const usual = { usualConfigFile: join(dir, "config.toml") };
    const stateDir = async (file: string): Promise<string> => (await loadConfig(file, options(dir, usual))).stateDir;
    expect(await stateDir("config.toml")).toBe("/var/lib/alloy-runner");
    await write(join(dir, "config.toml"), "");
    expect(await stateDir(join(dir, "x/../config.toml"))).toBe("/var/lib/alloy-runner");
    const other = await stateDir("Team A.toml");
    expect(other).toMatch(/^\/var\/lib\/alloy-runner\/by-config\/team-a-[0-9a-f]{8}$/);
    await write(join(dir, "Team A.toml"), "");
    expect(await stateDir(join(dir, "Team A.toml"))).toBe(other);
    expect(await stateDir("Team B.toml")).not.toBe(other);
    if (!unix) return;
    await symlink("config.toml", join(dir, "link.toml"));
    expect(await stateDir("link.toml")).toBe("/var/lib/alloy-runner");
    await symlink("Team A.toml", join(dir, "other-link.toml"));
    expect(await stateDir("other-link.toml")).toMatch(/other-link-[0-9a-f]{8}$/);
  });

  test.runIf(unix)("a file that others can read or change is warned about", async () => {
    const dir = await makeDir();
    const file = join(dir, "config.toml");
    await write(file, "", 0o644);
    expect((await loadConfig(file, options(dir))).warnings.join()).toMatch(
      /be read by other users \(mode 0644\)\. Run: chmod 600/,
    );
    const open = options(dir, { env: { TOKEN: "t" } });
    for (const [text, told] of [
      [entry("", "$TOKEN"), false],
      [`${entry("", "$TOKEN")}\n[runners.cache.s3]\nSecretKey = "x"`, true],
    ] as const) {
      await write(file, text, 0o644);
      expect((await loadConfig(file, open)).warnings.join().includes("chmod 600")).toBe(told);
    }
    await write(file, "", 0o622);
    expect((await loadConfig(file, options(dir))).warnings.join()).toContain("be changed by other users");
  });

  test("certificates beside the file are preferred to the default place", async () => {
    const dir = await makeDir();
    await write(join(dir, "config.toml"), entry());
    expect((await loadConfig("config.toml", options(dir))).runners[0]?.certsDir).toBe("/etc/alloy-runner/certs");
    await mkdir(join(dir, "certs"));
    expect((await loadConfig("config.toml", options(dir))).runners[0]?.certsDir).toBe(join(dir, "certs"));
  });

  test("TLS files are found from the working directory and from beside the config; a missing one is an error", async () => {
    const [dir, cwd] = [await makeDir(), await makeDir()];
    const file = join(dir, "config.toml");
    await write(join(cwd, "ca.pem"), "x");
    await write(join(dir, "key.pem"), "x");
    await write(file, entry('tls-ca-file = "ca.pem"\ntls-key-file = "key.pem"\ntls-cert-file = ""'));
    expect((await loadConfig(file, options(cwd))).runners[0]).toMatchObject({
      tlsCaFile: join(cwd, "ca.pem"),
      tlsKeyFile: join(dir, "key.pem"),
      tlsCertFile: undefined,
    });
    await write(file, entry('tls-ca-file = "gone.pem"'));
    expect((await loadConfig(file, options(cwd))).broken).toMatchObject([
      {
        line: 6,
        problems: [{ text: expect.stringContaining(`the file ${join(cwd, "gone.pem")} cannot be read (ENOENT)`) }],
        reach: null,
      },
    ]);
    await write(file, entry(`tls-ca-file = "${dir}"`));
    expect((await loadConfig(file, options(cwd))).broken[0]?.problems.map(problemLine).join()).toContain("not a file");
  });

  test("a directory, a huge file and other bytes than UTF-8 are refused soon", async () => {
    const dir = await makeDir();
    await expect(loadConfig(dir, options(dir))).rejects.toThrow(/is a directory/);
    const file = join(dir, "big.toml");
    await write(file, "");
    await truncate(file, 50 * 1024 * 1024);
    const started = performance.now();
    await expect(loadConfig(file, options(dir))).rejects.toThrow(/52428800 bytes; at most 2097152 are read/);
    expect(performance.now() - started).toBeLessThan(2000);
    await write(
      file,
      Buffer.concat([Buffer.from('# é\nconcurrent = 1\nname = "'), Buffer.from([0xe9]), Buffer.from('"\n')]),
    );
    await expect(loadConfig(file, options(dir))).rejects.toMatchObject({ line: 3, name: "ConfigError" });
    await write(file, Buffer.from("\ufeffconcurrent = 1\n", "utf16le"));
    await expect(loadConfig(file, options(dir))).rejects.toThrow(/UTF-16\. Save it as UTF-8/);
  });

  test.runIf(unix)("a FIFO is refused instead of waited for", async () => {
    const dir = await makeDir();
    execFileSync("mkfifo", [join(dir, "fifo")]);
    await expect(loadConfig("fifo", options(dir))).rejects.toThrow(/not a regular file/);
  });

  test.runIf(unix)("a link to nowhere is a missing file, a link in a circle an error", async () => {
    const dir = await makeDir();
    await symlink("gone.toml", join(dir, "link.toml"));
    expect((await loadConfig("link.toml", options(dir))).runners).toEqual([]);
    await symlink("loop.toml", join(dir, "loop.toml"));
    await expect(loadConfig("loop.toml", options(dir))).rejects.toThrow(/loop\.toml: cannot be read \(ELOOP\)/);
  });
});

describe("places", () => {
  const env = { HOME: "/home/me" };

  test("root, users, the homeless and Windows each have their own", () => {
    expect(defaultConfigFile(env, 0, "/cwd")).toBe("/etc/alloy-runner/config.toml");
    expect(defaultConfigFile(env, 1000, "/cwd")).toBe("/home/me/.alloy-runner/config.toml");
    expect(defaultConfigFile(env, undefined, "/cwd")).toBe("/cwd/config.toml");
    expect(defaultConfigFile({ CONFIG_FILE: "x.toml" }, 0, "/cwd")).toBe("x.toml");
    expect(defaultConfigFile({ CONFIG_FILE: "" }, 0, "/cwd")).toBe("/etc/alloy-runner/config.toml");
    expect(defaultCertsDir({ CONFIG_FILE: "x.toml" }, 0, "/cwd")).toBe("/etc/alloy-runner/certs");
    expect(defaultCertsDir(env, 1000, "/cwd")).toBe("/home/me/.alloy-runner/certs");
    expect(defaultStateDir(env, 0, "/cwd")).toBe("/var/lib/alloy-runner");
    expect(defaultStateDir(env, 1000, "/cwd")).toBe("/home/me/.local/state/alloy-runner");
    expect(defaultStateDir({ ...env, XDG_STATE_HOME: "/x" }, 1000, "/cwd")).toBe("/x/alloy-runner");
    expect(defaultStateDir({ ...env, XDG_STATE_HOME: "x" }, 1000, "/cwd")).toBe("/home/me/.local/state/alloy-runner");
  });

  test("a runner's id says nothing of its token", () => {
    expect(runnerId("abcdefgh")).toBe("9c56cc51");
  });
});
