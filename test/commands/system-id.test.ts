import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { type SystemIdOptions, systemId } from "../../src/commands/system-id.ts";

/** A home with a configuration that says where the state is; its folder is there or not. */
async function setUp(more: Partial<SystemIdOptions> = {}) {
  const home = await mkdtemp(join(tmpdir(), "alloy-system-id-"));
  onTestFinished(() => rm(home, { recursive: true, force: true }));
  const config = join(home, "etc", "config.toml");
  await mkdir(dirname(config));
  const state = join(home, "state");
  await writeFile(config, `state_dir = "${state}"\n`);
  const said: string[] = [];
  const options: SystemIdOptions = {
    env: { HOME: home },
    uid: 1000,
    cwd: home,
    config,
    keep: true,
    say: (text) => void said.push(text),
    machineId: async () => "",
    ...more,
  };
  return { home, state, config, said, file: join(dirname(config), ".runner_system_id"), options };
}

test("a machine is known by its own id, in GitLab Runner's fashion, and that is written down", async () => {
  const { file, options, said } = await setUp({ machineId: async () => "0123456789abcdef0123456789abcdef\n" });
  // printf gitlab-runner | openssl sha256 -hmac 0123456789abcdef0123456789abcdef
  expect(await systemId({ ...options, keep: false })).toBe("s_ee3af03959fe");
  await expect(stat(file)).rejects.toThrow("ENOENT");
  expect(await systemId(options)).toBe("s_ee3af03959fe");
  expect(await readFile(file, "utf8")).toBe("s_ee3af03959fe\n");
  expect((await stat(file)).mode & 0o777).toBe(0o600);
  // Also where the machine says something else one day.
  expect(await systemId({ ...options, machineId: async () => "another" })).toBe("s_ee3af03959fe");
  expect(said).toEqual([]);
});

test.each(["foo", "", "s_tooShort", "s_0123456789abc"])("what is no id is replaced: %j", async (content) => {
  const { file, options } = await setUp();
  await writeFile(file, content);
  const made = await systemId(options);
  expect(made).toMatch(/^r_[0-9A-Za-z]{12}$/);
  expect(await readFile(file, "utf8")).toBe(`${made}\n`);
  expect(await systemId(options)).toBe(made);
  expect(await readdir(dirname(file))).toHaveLength(2);
});

test("what somebody has written down counts: beside the configuration, else in the usual place", async () => {
  const { home, file, options } = await setUp();
  const usual = join(home, ".alloy-runner", ".runner_system_id");
  await mkdir(dirname(usual));
  await writeFile(usual, " r_Abc123Def456 \r\n");
  expect(await systemId(options)).toBe("r_Abc123Def456");
  await writeFile(file, "s_ABC0123456xy\n");
  expect(await systemId(options)).toBe("s_ABC0123456xy");
});

test("where the configuration's folder cannot be written the state directory has it; where nothing can, that is said", async () => {
  const { home, state, file, options, said } = await setUp();
  // Root may write everywhere; a folder that is none is for nobody.
  const config = join("/dev/null", "config.toml");
  await mkdir(join(home, ".local/state"), { recursive: true });
  const made = await systemId({ ...options, config });
  expect(await readFile(join(home, ".local/state/alloy-runner/.runner_system_id"), "utf8")).toBe(`${made}\n`);
  expect(await systemId({ ...options, config })).toBe(made);
  expect(said).toEqual([]);
  await writeFile(options.config, 'state_dir = "/dev/null/state"\n');
  await mkdir(file);
  const lost = await systemId(options);
  expect(said).toEqual([expect.stringContaining(`write ${lost} to ${file}`)]);
  await rm(file, { recursive: true });
  await writeFile(options.config, `state_dir = "${state}"\n`);
  await mkdir(file);
  await chmod(dirname(file), 0o700);
  const kept = await systemId(options);
  expect(await readFile(join(state, ".runner_system_id"), "utf8")).toBe(`${kept}\n`);
});

test("of many at once all are the same machine", async () => {
  const { options } = await setUp();
  expect(new Set(await Promise.all(Array.from({ length: 20 }, () => systemId(options)))).size).toBe(1);
});
