import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type ExecSettings, execProvider } from "../../../executors/autoscaler/providers/exec.ts";
import { type InstanceConnection, parseAddress } from "../../../executors/autoscaler/providers/instance.ts";
import { staticProvider } from "../../../executors/autoscaler/providers/static.ts";
import { SystemFailure } from "../../../src/errors.ts";
import { deadline, never } from "../../../src/time.ts";
import { isAlive } from "../../support/processes.ts";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "alloy-exec-provider-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

/** A program of an operator's: `answer` is shell text, with the request in $request and its operation in $operation. */
function provider(answer: string, callMs = 10_000) {
  const program = join(dir, "cloud");
  writeFileSync(
    program,
    `#!/bin/sh
request=$(cat)
echo "$request" >> ${dir}/requests
operation=$(echo "$request" | sed 's/.*"operation":"\\([a-z]*\\)".*/\\1/')
${answer}
`,
  );
  chmodSync(program, 0o755);
  return calling({ command: [program, "--region", "here"], config: { size: "small" }, callMs });
}

function calling({ config = {}, callMs = 10_000, ...settings }: Pick<ExecSettings, "command"> & Partial<ExecSettings>) {
  return execProvider(() => ({ ...settings, config, callMs }), { PATH: process.env.PATH });
}

test("each call is one request on stdin and one answer on stdout", async () => {
  const cloud = provider(`case $operation in
list) echo '{"instances": [{"id": "a", "state": "creating"}, {"id": "b", "state": "running", "zone": "x"}]}' ;;
grow) echo '{"count": 2}' ;;
connect) echo '{"address": "192.0.2.7:2222", "key": "KEY", "host_keys": ["SHA256:x"], "expires": "2026-11-30T10:00:00Z"}' ;;
*) echo '{}' ;;
esac`);
  await cloud.init(never);
  expect(await cloud.list(never)).toEqual([
    { id: "a", state: "creating" },
    { id: "b", state: "running" },
  ]);
  expect(await cloud.grow(3, never)).toBe(2);
  await cloud.shrink(["a", "b"], never);
  const connection = await cloud.connect("b", never);
  expect(connection).toEqual({
    internal: { host: "192.0.2.7", port: 2222 },
    external: null,
    user: undefined,
    password: undefined,
    key: "KEY",
    keyFile: undefined,
    hostKeys: ["SHA256:x"],
    expires: Date.UTC(2026, 10, 30, 10),
  });
  await cloud.check("b", connection, never);
  const requests = readFileSync(join(dir, "requests"), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  const common = { version: 1, config: { size: "small" } };
  expect(requests).toEqual([
    { ...common, operation: "init" },
    { ...common, operation: "list" },
    { ...common, operation: "grow", count: 3 },
    { ...common, operation: "shrink", ids: ["a", "b"] },
    { ...common, operation: "connect", id: "b" },
    { ...common, operation: "check", id: "b" },
  ]);
});

test("what a program gets wrong is named with its operation, and is worth another try", async () => {
  const cases: readonly (readonly [answer: string, message: RegExp])[] = [
    [
      "echo one >&2; echo 'the quota is used up' >&2; exit 3",
      /cloud fails at "list": it ended with status 3: the quota is used up$/,
    ],
    ["echo no JSON", /cloud fails at "list": its answer is not what was asked for/],
    [`echo '{"instances": [{"id": "a", "state": "dancing"}]}'`, /instances\.0\.state: /],
    ["kill -9 $$", /ended with status null/],
  ];
  for (const [answer, message] of cases) {
    const error: unknown = await provider(answer)
      .list(never)
      .catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(SystemFailure);
    expect(error).toMatchObject({ message: expect.stringMatching(message), retry: true });
  }
  const missing = calling({ command: [join(dir, "nothing")] });
  await expect(missing.init(never)).rejects.toThrow(/nothing fails at "init": it cannot be started/);
  await expect(provider(`echo '{"address": "not an address"}'`).connect("a", never)).rejects.toThrow(
    /"not an address" is no address/,
  );
});

test("a program that hangs is ended with all that it has started, and one that reads nothing does no harm", async () => {
  const hanging = provider(`sleep 600 & echo $! > ${dir}/child; wait`, 500);
  await expect(hanging.list(never)).rejects.toThrow(/does not end within 0\.5 s/);
  const child = readFileSync(join(dir, "child"), "utf8").trim();
  while (isAlive(child)) await wait(20);
  using soon = deadline(never, 300, new Error("given up"));
  rmSync(join(dir, "child"));
  await expect(provider(`sleep 600 & echo $! > ${dir}/child; wait`).list(soon.signal)).rejects.toThrow("given up");
  while (existsSync(join(dir, "child")) && isAlive(readFileSync(join(dir, "child"), "utf8").trim())) await wait(20);
  writeFileSync(join(dir, "closed"), "#!/bin/sh\nexec 0<&-\necho '{\"instances\": []}'\n");
  chmodSync(join(dir, "closed"), 0o755);
  const closed = calling({ command: [join(dir, "closed")], config: { much: "x".repeat(1_000_000) } });
  expect(await closed.list(never)).toEqual([]);
});

test("what changes something is not broken off: the end waits for it", async () => {
  const slow = provider(`[ $operation = grow ] && sleep 0.5 && : > ${dir}/made; echo '{"count": 1}'`);
  const stop = new AbortController();
  const growing = slow.grow(1, stop.signal);
  stop.abort(new Error("the runner ends"));
  await expect(growing).rejects.toThrow("the runner ends");
  expect(existsSync(join(dir, "made"))).toBe(false);
  await slow.close(never);
  expect(existsSync(join(dir, "made"))).toBe(true);
});

test("what a program has left running does not hold its answer", async () => {
  const leaving = provider(`sleep 600 & echo $! > ${dir}/child; echo '{"instances": []}'`);
  expect(await leaving.list(never)).toEqual([]);
  process.kill(Number(readFileSync(join(dir, "child"), "utf8")), "SIGKILL");
});

test("hosts of a list are had and let go of, and one that is gone from the list can be used no more", async () => {
  const host = (name: string): InstanceConnection => ({
    internal: { host: name, port: null },
    external: null,
    user: undefined,
    password: undefined,
    key: undefined,
    keyFile: undefined,
    hostKeys: [],
    expires: undefined,
  });
  let hosts = new Map(["a", "b", "c"].map((name) => [name, host(name)]));
  const list = staticProvider(() => hosts);
  expect(await list.list(never)).toEqual([]);
  expect(await list.grow(2, never)).toBe(2);
  expect(await list.grow(5, never)).toBe(1);
  expect((await list.list(never)).map(({ id }) => id)).toEqual(["a", "b", "c"]);
  await list.shrink(["b", "nobody"], never);
  expect((await list.list(never)).map(({ id }) => id)).toEqual(["a", "c"]);
  expect(await list.grow(1, never)).toBe(1);
  const connection = await list.connect("a", never);
  expect(connection.internal).toEqual({ host: "a", port: null });
  await list.check("a", connection, never);
  hosts = new Map([...hosts].filter(([name]) => name !== "a"));
  await expect(list.check("a", connection, never)).rejects.toThrow("There is no host a in plugin_config any more");
  expect(await list.exists("a", never)).toBe(false);
});

test("addresses are names and numbers, with a port or without", () => {
  expect(parseAddress("build-7.example.com")).toEqual({ host: "build-7.example.com", port: null });
  expect(parseAddress("192.0.2.1:2222")).toEqual({ host: "192.0.2.1", port: 2222 });
  expect(parseAddress("2001:db8::1")).toEqual({ host: "2001:db8::1", port: null });
  expect(parseAddress("[2001:db8::1]:22")).toEqual({ host: "2001:db8::1", port: 22 });
  for (const text of ["", "a b", "ssh://x", "root@x", "x:0", "x:99999", "[x"])
    expect(parseAddress(text), text).toBeNull();
});
