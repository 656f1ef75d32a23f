import { once } from "node:events";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { createConnection, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { createBoard } from "../../src/board/board.ts";
import { strangersThatRead } from "../../src/commands/doctor/windows-rights.ts";
import { createControlClient, NobodyListens } from "../../src/control/client.ts";
import { openPipeDoor } from "../../src/control/pipe.ts";
import { drainedSchema, statusSchema } from "../../src/control/protocol.ts";
import { openControl } from "../../src/control/server.ts";
import { createLog } from "../../src/log.ts";

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

/** A runner whose door is that of Windows, with a socket of this system in the pipe's place. */
async function open() {
  const stateDir = await mkdtemp(join(tmpdir(), "alloy-pipe-"));
  closers.push(() => rm(stateDir, { recursive: true, force: true }));
  const told: string[] = [];
  const log = createLog({ level: "error", format: "text", output: { write: () => {}, flush: async () => {} } });
  const server = await openControl(
    stateDir,
    {
      board: createBoard(),
      version: "test",
      about: () => ({ config: "/etc/config.toml", state: "running", concurrent: 1 }),
      figures: () => [],
      pause: () => {},
      resume: () => {},
      tidy: async () => [],
      drain: () => told.push("drain"),
      reload: async () => ({ problem: "not today" }),
    },
    log,
    (dir, its) => openPipeDoor(dir, its, process.platform === "win32" ? undefined : `${stateDir}/`),
  );
  closers.push(() => server.close());
  const file = join(stateDir, "control", "pipe.json");
  const key: { pipe: string; secret: string } = JSON.parse(await readFile(file, "utf8"));
  const client = createControlClient({ stateDir, named: "c.toml", uid: process.getuid?.(), by: "pipe" });
  return { stateDir, file, key, server, client, told };
}

/** What came on a connection until the other end has closed it. */
async function whole(socket: Socket): Promise<string> {
  let text = "";
  socket.on("data", (chunk) => {
    text += chunk.toString("latin1");
  });
  socket.on("error", () => {});
  await once(socket, "close", { signal: AbortSignal.timeout(5000) });
  return text;
}

test("whoever can read the secret is served at the pipe, and nobody after its end", async () => {
  const { file, server, client, told } = await open();
  if (process.platform !== "win32") expect((await stat(file)).mode & 0o777).toBe(0o600);
  const answers = await Promise.all(Array.from({ length: 5 }, () => client.get("status", statusSchema)));
  expect(answers.map(({ version }) => version)).toEqual(Array.from({ length: 5 }, () => "test"));
  await client.post("drain", drainedSchema);
  expect(told).toEqual(["drain"]);
  await server.close();
  await expect(client.get("status", statusSchema)).rejects.toThrow(NobodyListens);
});

test("a stranger at the pipe is told nothing, whatever it sends, and does nothing", async () => {
  const { key, client, told, stateDir, file } = await open();
  const request = "POST /v1/drain HTTP/1.1\r\nHost: runner\r\n\r\n";
  const nonce = "a".repeat(64);
  for (const sent of [
    request,
    `hello ${nonce}\n${request}`,
    `hello ${"b".repeat(63)}\n`,
    `operator ${nonce}\n`,
    "x".repeat(5000),
  ]) {
    const socket = createConnection(key.pipe);
    const said = whole(socket);
    socket.write(sent);
    expect(await said).toBe("");
  }
  const socket = createConnection(key.pipe);
  const said = whole(socket);
  socket.write(`hello ${nonce}\n`);
  await once(socket, "data", { signal: AbortSignal.timeout(5000) });
  socket.write(`operator ${nonce}\n`);
  expect(await said).toMatch(/^runner [0-9a-f]{64} [0-9a-f]{64}\n$/);

  await writeFile(file, JSON.stringify({ ...key, secret: Buffer.alloc(32, 1).toString("base64") }));
  await expect(client.post("drain", drainedSchema)).rejects.toThrow("does not know the secret");
  expect(told).toEqual([]);
  expect(stateDir).not.toBe("");
});

test("a client speaks to no squatter of the pipe, not even to one that gives its own proof back", async () => {
  const { key, client, file, server } = await open();
  const squatted = join(file, "..", "..", "squatted");
  const heard: string[] = [];
  const squatter = createServer((socket) => {
    socket.on("error", () => {});
    socket.on("data", (chunk) => {
      heard.push(chunk.toString());
      const [, nonce = ""] = /^hello (\S+)\n$/.exec(chunk.toString()) ?? [];
      socket.write(`runner ${nonce} ${nonce}\nwelcome\n`);
    });
  });
  squatter.listen(squatted);
  await once(squatter, "listening");
  closers.push(async () => squatter.close());
  await writeFile(file, JSON.stringify({ ...key, pipe: squatted }));
  await expect(client.post("drain", drainedSchema)).rejects.toThrow("is not the runner of c.toml");
  expect(heard.join("")).toMatch(/^hello [0-9a-f]{64}\n$/);

  // One that leads to the runner itself: a proof for one name is none for another.
  const relay = createServer((socket) => {
    const onwards = createConnection(key.pipe);
    for (const one of [socket, onwards]) one.on("error", () => {});
    socket.pipe(onwards).pipe(socket);
  });
  relay.listen(`${squatted}-2`);
  await once(relay, "listening");
  closers.push(async () => relay.close());
  await writeFile(file, JSON.stringify({ ...key, pipe: `${squatted}-2` }));
  await expect(client.post("drain", drainedSchema)).rejects.toThrow("is not the runner of c.toml");
  await server.close();
});

test("who may read a directory of Windows is read from its descriptor in any language", () => {
  const own = "(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;FA;;;OW)(A;OICI;FA;;;S-1-5-21-1-2-3-1001)";
  expect(strangersThatRead(`alloy-runner\r\nD:PAI${own}\r\n`)).toEqual([]);
  expect(strangersThatRead(`D:AI${own}(A;OICIID;0x1200a9;;;BU)(A;ID;FR;;;S-1-1-0)`)).toEqual(["Users", "Everyone"]);
  expect(strangersThatRead("D:(D;;FA;;;WD)(A;;0x100116;;;AU)(A;;DCLCRP;;;BU)S:(A;;FA;;;WD)")).toEqual([]);
  expect(strangersThatRead("D:(A;OICIIO;GXGR;;;AU)(A;;0x1;;;AU)")).toEqual(["Authenticated Users"]);
});
