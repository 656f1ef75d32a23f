import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { addressTowards, type Interfaces, sourcesAddress } from "../../src/commands/exec/here/address.ts";
import { readExecOptions } from "../../src/commands/exec/options.ts";
import type { JobLocation } from "../../src/executor/environment.ts";

describe("where jobs fetch their sources", () => {
  const entry = (address: string, internal = false) =>
    ({ address, internal, family: "IPv4", netmask: "", mac: "", cidr: null }) as const;
  const interfaces = { lo: [entry("127.0.0.1", true)], eth0: [entry("192.0.2.7")], docker0: [entry("172.17.0.1")] };
  const here = { at: "this machine" } as const;
  const inContainers = { at: "containers of this machine" } as const;
  const far = { at: "host", host: "build.example.com" } as const;
  const ask = (
    location: JobLocation,
    {
      given,
      towards,
      platform = "linux",
      around = interfaces,
    }: Partial<Parameters<typeof sourcesAddress>[0]> & { around?: Interfaces } = {},
  ) => sourcesAddress({ location, given, towards, platform }, around);

  test("on this machine by loopback, from containers by the bridge, elsewhere by what is given", () => {
    expect(ask(here)).toEqual({ listenHost: "127.0.0.1", publicHost: "127.0.0.1" });
    expect(ask(inContainers)).toEqual({ listenHost: "172.17.0.1", publicHost: "172.17.0.1" });
    expect(ask(inContainers, { platform: "darwin" })).toEqual({
      listenHost: "127.0.0.1",
      publicHost: "host.docker.internal",
    });
    expect(ask(inContainers, { given: "192.0.2.7" })).toEqual({ listenHost: "192.0.2.7", publicHost: "192.0.2.7" });
    expect(ask(here, { given: "build.example.com" })).toEqual({
      listenHost: "0.0.0.0",
      publicHost: "build.example.com",
    });
    const plain = { eth0: [entry("192.0.2.7")] };
    expect(ask(inContainers, { around: plain })).toEqual({ listenHost: "192.0.2.7", publicHost: "192.0.2.7" });
    expect(() => ask(inContainers, { around: {} })).toThrow("--address");
    expect(ask(far, { towards: "192.0.2.7" })).toEqual({ listenHost: "192.0.2.7", publicHost: "192.0.2.7" });
    expect(() => ask(far)).toThrow(/build\.example\.com.*--address/);
  });

  test("another host is reached from the address that leads there", async () => {
    expect(await addressTowards("127.0.0.1")).toBe("127.0.0.1");
    expect(await addressTowards("no-such-host.invalid")).toBeUndefined();
  });
});

describe("options", () => {
  let dir: string;
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), "alloy-exec-options-"));
  });
  afterEach(async () => {
    await rm(dir, { recursive: true });
  });
  const read = (values: Record<string, unknown>, jobs: readonly string[] = []) =>
    readExecOptions(jobs, values, { cwd: dir, env: { OUTSIDE: "o=u t" } }, 3);

  test("have defaults, and their own spelling of numbers and times", async () => {
    expect(await read({})).toEqual({
      jobs: [],
      needs: false,
      onlyNeeds: false,
      parallel: 3,
      committed: false,
      ref: undefined,
      variables: [],
      unset: [],
      timeoutSeconds: 3600,
      address: undefined,
      mode: "run",
      fetchIncludes: false,
      file: undefined,
      json: false,
      csv: false,
      all: false,
      source: undefined,
      target: undefined,
      inputs: new Map(),
      jobInputs: new Map(),
      ignoreWorkflow: false,
      strictManual: false,
      verbose: false,
      changed: undefined,
      manual: [],
      stages: [],
      checkouts: new Map(),
      offline: false,
      noDelay: false,
      artifactsDir: undefined,
    });
    await expect(read({ json: true })).rejects.toThrow("--json and --all are for --list");
    await expect(read({ source: "pushes" })).rejects.toThrow("--source is one of push, tag, merge_request_event");
    await expect(read({ source: "tag" })).rejects.toThrow("a push of a tag: name it with --ref");
    expect(await read({ source: "tag", ref: "v1" })).toMatchObject({ source: "push", ref: "refs/tags/v1" });
    await expect(read({ target: "main" })).rejects.toThrow("--target is for");
    await expect(read({ input: ["a"] })).rejects.toThrow("--input is NAME=VALUE");
    expect((await read({ input: ["a=b=c"], include: ["G/P=../p"] })).inputs).toEqual(new Map([["a", "b=c"]]));
    expect((await read({ input: ["my: job:a=b:c", "a=x:y=z"] })).jobInputs).toEqual(
      new Map([["my: job", new Map([["a", "b:c"]])]]),
    );
    expect(await read({ jobs: "7", timeout: "15m", dryRun: true })).toMatchObject({
      parallel: 7,
      timeoutSeconds: 900,
      mode: "dry-run",
    });
    expect((await read({ timeout: "1h30m" })).timeoutSeconds).toBe(5400);
    for (const timeout of ["0", "-1", "1y", "x"]) await expect(read({ timeout }), timeout).rejects.toThrow("--timeout");
    for (const jobs of ["0", "-1", "1.5", "x"]) await expect(read({ jobs }), jobs).rejects.toThrow("--jobs");
    await expect(read({ withNeeds: true })).rejects.toThrow("for named jobs");
    await expect(read({ list: true, dryRun: true })).rejects.toThrow("Choose one");
  });

  test("variables come by value or by name, files with comments, quotes and escapes; values never show in errors", async () => {
    await writeFile(
      join(dir, "env"),
      `\ufeff# c\r\n\nA=1 # not part\nexport B = "x\\ny \\"z\\" #" # c\nC='a "b" \\n'\nD=\nE=a=b#c\n`,
    );
    expect((await read({ var: ["X=a=b", "OUTSIDE"], envFile: ["env"] })).variables).toEqual([
      { key: "A", value: "1", masked: true },
      { key: "B", value: 'x\ny "z" #', masked: true },
      { key: "C", value: 'a "b" \\n', masked: true },
      { key: "D", value: "", masked: true },
      { key: "E", value: "a=b#c", masked: true },
      { key: "X", value: "a=b" },
      { key: "OUTSIDE", value: "o=u t" },
    ]);
    await expect(read({ var: ["NOT_THERE"] })).rejects.toThrow("no environment variable");
    await expect(read({ var: ["1A=hunter2"] })).rejects.toThrow(/^((?!hunter2).)*$/);
    await expect(read({ envFile: ["missing"] })).rejects.toThrow("--env-file missing cannot be read");
  });
});
