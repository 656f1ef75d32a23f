import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterEach, describe, expect, test } from "vitest";
import { createLog } from "../src/log.ts";
import { type Notifier, openNotifier } from "../src/notify.ts";

const has = (program: string) => spawnSync("sh", ["-c", `command -v ${program}`]).status === 0;
const needed = ["systemd-notify", "python3"].filter((program) => !has(program));

const receivers: ChildProcess[] = [];
const folders: string[] = [];
const notifiers: Notifier[] = [];
afterEach(async () => {
  for (const notifier of notifiers.splice(0)) await notifier.close();
  for (const receiver of receivers.splice(0)) receiver.kill();
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true });
});

function quiet() {
  const lines: string[] = [];
  const output = { write: (line: string) => void lines.push(line), flush: async () => {} };
  return { lines, log: createLog({ level: "info", format: "text", output }) };
}

function open(env: NodeJS.ProcessEnv, log = quiet().log) {
  const notifier = openNotifier({ env: { PATH: process.env.PATH, ...env }, pid: process.pid, log });
  notifiers.push(notifier);
  return notifier;
}

/** A datagram socket like systemd's; it returns messages as JSON, one a line. */
async function receive(address: (folder: string) => string) {
  const folder = await mkdtemp(join(tmpdir(), "notify-"));
  folders.push(folder);
  const socket = address(folder);
  const program = `
import json, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
a = sys.argv[1]
s.bind("\\0" + a[1:] if a[0] == "@" else a)
print("bound", flush=True)
while True:
    print(json.dumps(s.recv(65536).decode()), flush=True)
`;
  const receiver = spawn("python3", ["-c", program, socket], { stdio: ["ignore", "pipe", "inherit"] });
  receivers.push(receiver);
  const lines = createInterface({ input: receiver.stdout })[Symbol.asyncIterator]();
  expect((await lines.next()).value).toBe("bound");
  const next = async (): Promise<string> => {
    const message = String(JSON.parse((await lines.next()).value ?? '""'));
    // systemd-notify sends this to learn whether its message was read.
    return message === "BARRIER=1" ? next() : message;
  };
  return { socket, folder, next };
}

describe.skipIf(needed.length > 0)(`the service manager (needs ${needed.join(", ") || "nothing more"})`, () => {
  test.each([
    ["a path", (folder: string) => join(folder, "notify.sock")],
    ["an abstract name", () => `@alloy-runner-test-${process.pid}`],
  ])("is told of readiness, reload, status and stop, in order, at %s", async (_title, address) => {
    const { socket, next } = await receive(address);
    const notifier = open({ NOTIFY_SOCKET: socket });
    notifier.ready("polling 2 entries");
    notifier.reloading();
    notifier.status("two\nlines");
    notifier.stopping("waiting for 3 jobs");
    await notifier.close();
    const text = [];
    while (!text.join("").includes("STOPPING=1")) text.push(await next());
    const all = text.join("\n");
    expect(all).toMatch(/READY=1[\s\S]*RELOADING=1[\s\S]*STATUS=two lines[\s\S]*STOPPING=1/);
    expect(all).toContain("STATUS=polling 2 entries");
    expect(all).toContain(`MAINPID=${process.pid}`);
  });

  test("gets signs of life where it asked this process for them", async () => {
    const { socket, next } = await receive((folder) => join(folder, "s"));
    open({ NOTIFY_SOCKET: socket, WATCHDOG_USEC: "200000", WATCHDOG_PID: String(process.pid) });
    expect(await next()).toContain("WATCHDOG=1");
    expect(await next()).toContain("WATCHDOG=1");
  });
});

test("without a socket nothing is started and nothing goes wrong", async () => {
  const { log, lines } = quiet();
  const notifier = open({ PATH: "/nonexistent", WATCHDOG_USEC: "1000" }, log);
  notifier.ready("x");
  notifier.reloading();
  await notifier.close();
  expect(lines).toEqual([]);
});

test("a missing sender is told once and costs nothing else", async () => {
  const folder = await mkdtemp(join(tmpdir(), "notify-"));
  folders.push(folder);
  const { log, lines } = quiet();
  const notifier = open({ PATH: folder, NOTIFY_SOCKET: join(folder, "none") }, log);
  notifier.ready("x");
  notifier.status("y");
  await notifier.close();
  expect(lines).toHaveLength(1);
  expect(lines[0]).toContain("systemd-notify");
});

test.skipIf(!has("sleep"))("a sender that fails is told once, without stopping anything", async () => {
  const folder = await mkdtemp(join(tmpdir(), "notify-"));
  folders.push(folder);
  await symlink("/bin/false", join(folder, "systemd-notify"));
  const { log, lines } = quiet();
  const notifier = open({ PATH: folder, NOTIFY_SOCKET: join(folder, "none") }, log);
  notifier.ready("x");
  notifier.stopping("y");
  await notifier.close();
  expect(lines).toHaveLength(1);
  expect(lines[0]).toContain("systemd-notify ended with status 1");
});
