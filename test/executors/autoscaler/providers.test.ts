import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { execProvider } from "../../../executors/autoscaler/providers/exec.ts";
import { parseAddress } from "../../../executors/autoscaler/providers/instance.ts";
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
  return execProvider({
    command: [program, "--region", "here"],
    config: { size: "small" },
    user: "ci",
    environment: { PATH: process.env.PATH ?? "" },
    callMs,
  });
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
    host: "192.0.2.7",
    port: 2222,
    user: "ci",
    password: undefined,
    key: "KEY",
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
  const missing = execProvider({ command: [join(dir, "nothing")], config: {}, user: "", environment: {} });
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
  writeFileSync(join(dir, "deaf"), "#!/bin/sh\nexec 0<&-\necho '{\"instances\": []}'\n");
  chmodSync(join(dir, "deaf"), 0o755);
  const deaf = execProvider({
    command: [join(dir, "deaf")],
    config: { much: "x".repeat(1_000_000) },
    user: "",
    environment: {},
  });
  expect(await deaf.list(never)).toEqual([]);
});

test("hosts of a list are had and let go of", async () => {
  const host = (name: string) => ({
    host: name,
    port: 22,
    user: "ci",
    password: "p",
    key: undefined,
    hostKeys: [],
    expires: undefined,
  });
  const hosts = new Map(["a", "b", "c"].map((name) => [name, host(name)]));
  const asked: string[] = [];
  const list = staticProvider(hosts, async (connection) => void asked.push(connection.host));
  expect(await list.list(never)).toEqual([]);
  expect(await list.grow(2, never)).toBe(2);
  expect(await list.grow(5, never)).toBe(1);
  expect((await list.list(never)).map(({ id }) => id)).toEqual(["a", "b", "c"]);
  await list.shrink(["b", "nobody"], never);
  expect((await list.list(never)).map(({ id }) => id)).toEqual(["a", "c"]);
  expect(await list.grow(1, never)).toBe(1);
  await list.check("a", await list.connect("a", never), never);
  expect(asked).toEqual(["a"]);
});

test("addresses are names and numbers, with a port or without", () => {
  expect(parseAddress("build-7.example.com")).toEqual({ host: "build-7.example.com", port: 22 });
  expect(parseAddress("192.0.2.1:2222")).toEqual({ host: "192.0.2.1", port: 2222 });
  expect(parseAddress("2001:db8::1", 2022)).toEqual({ host: "2001:db8::1", port: 2022 });
  expect(parseAddress("[2001:db8::1]:22")).toEqual({ host: "2001:db8::1", port: 22 });
  for (const text of ["", "a b", "ssh://x", "root@x", "x:0", "x:99999", "[x"])
    expect(parseAddress(text), text).toBeNull();
});
