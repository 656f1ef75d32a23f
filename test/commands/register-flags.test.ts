import { Command } from "commander";
import { afterEach, expect, test, vi } from "vitest";
import { executors } from "../../executors/index.ts";
import { normalizeArguments } from "../../src/commands/arguments.ts";
import { addRunnerFlags } from "../../src/commands/options.ts";
import { entryKeys } from "../../src/commands/register/runner-flags.ts";

afterEach(() => vi.unstubAllEnvs());

function register(): Command {
  return addRunnerFlags(new Command("register").exitOverride(), executors.words);
}

/** An entry as `register` writes it for these words and the environment. */
function entry(...argv: readonly string[]): ReturnType<typeof entryKeys> {
  const command = register();
  const names = new Set(command.options.flatMap(({ long }) => long?.slice(2) ?? []));
  command.parse(normalizeArguments(argv, names), { from: "user" });
  return entryKeys(command.opts(), executors.words, "shell");
}

const BUCKET = [
  ["CACHE_S3_SERVER_ADDRESS", "S3_SERVER_ADDRESS", "ServerAddress"],
  ["CACHE_S3_ACCESS_KEY", "S3_ACCESS_KEY", "AccessKey"],
  ["CACHE_S3_SECRET_KEY", "S3_SECRET_KEY", "SecretKey"],
  ["CACHE_S3_BUCKET_NAME", "S3_BUCKET_NAME", "BucketName"],
  ["CACHE_S3_BUCKET_LOCATION", "S3_BUCKET_LOCATION", "BucketLocation"],
] as const;

test.each(BUCKET)("a bucket's %s counts as %s does, and before it", (newer, older, key) => {
  const s3 = (): unknown => entry().cache;
  vi.stubEnv(older, "older");
  expect(s3()).toEqual({ s3: { [key]: "older" } });
  vi.stubEnv(newer, "");
  expect(s3()).toEqual({ s3: { [key]: "older" } });
  vi.stubEnv(newer, "newer");
  expect(s3()).toEqual({ s3: { [key]: "newer" } });
  vi.stubEnv(older, undefined);
  expect(s3()).toEqual({ s3: { [key]: "newer" } });
});

test("both names of a switch's variable are read, and a wrong value is named by that which has it", () => {
  vi.stubEnv("S3_CACHE_INSECURE", "true");
  expect(entry().cache).toEqual({ s3: { Insecure: true } });
  vi.stubEnv("CACHE_S3_INSECURE", "perhaps");
  expect(() => entry()).toThrow("--cache-s3-insecure (CACHE_S3_INSECURE) is true or false");
});

test("help names both variables, whichever is set", () => {
  const both = /s3-secret-key <value>[^-]+ also by\s+S3_SECRET_KEY\s+\(env:\s+CACHE_S3_SECRET_KEY\)/;
  expect(register().helpInformation()).toMatch(both);
  vi.stubEnv("S3_SECRET_KEY", "sk");
  const other = /s3-secret-key <value>[^-]+ also by\s+CACHE_S3_SECRET_KEY\s+\(env:\s+S3_SECRET_KEY\)/;
  expect(register().helpInformation()).toMatch(other);
});

test("jobs may choose their directory by flag or environment", () => {
  expect(entry("--custom_build_dir-enabled").custom_build_dir).toEqual({ enabled: true });
  expect(entry("--custom_build_dir-enabled=false").custom_build_dir).toEqual({ enabled: false });
  vi.stubEnv("CUSTOM_BUILD_DIR_ENABLED", "true");
  expect(entry().custom_build_dir).toEqual({ enabled: true });
  vi.stubEnv("CUSTOM_BUILD_DIR_ENABLED", "perhaps");
  expect(() => entry()).toThrow("--custom_build_dir-enabled (CUSTOM_BUILD_DIR_ENABLED) is true or false");
});

test("flags of roles of a bucket are taken, in both spellings", () => {
  const flags = ["--cache-s3-assume-role-max-concurrency=3", "--cache-s3-disable_assume_role_credentials_caching"];
  expect(entry(...flags).cache).toEqual({
    s3: { AssumeRoleMaxConcurrency: 3, DisableAssumeRoleCredentialsCaching: true },
  });
});
