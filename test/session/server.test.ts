import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test, vi } from "vitest";
import { SystemFailure } from "../../src/errors.ts";
import type { Environment } from "../../src/executor/environment.ts";
import { makeCertificate } from "../../src/session/certificate.ts";
import type { JobSession, SessionOffer, TerminalEvent } from "../../src/session/contract.ts";
import { openSessionServer, type SessionServer } from "../../src/session/server.ts";
import { never } from "../../src/time.ts";
import { opened, preparedIn } from "../executors/shell-stand.ts";
import { silentLog } from "../support/executor-deps.ts";
import { freePort } from "../support/free-port.ts";
import { atTerminal, connectTerminal } from "../support/terminal-client.ts";

async function serving(host = "127.0.0.1"): Promise<SessionServer> {
  const port = await freePort();
  const config = {
    listen: { host: "127.0.0.1", port },
    advertise: { host, port },
    sessionTimeoutMs: 60_000,
    tls: null,
  };
  const server = await openSessionServer(config, silentLog);
  onTestFinished(() => server.close());
  return server;
}

interface Stand {
  readonly offer: SessionOffer;
  readonly session: JobSession;
  readonly environment: Environment;
  readonly events: TerminalEvent[];
}

/** A job of the shell executor whose terminal can be opened. */
async function jobOf(server: SessionServer): Promise<Stand> {
  const offer = server.offer();
  const session = offer.claim();
  const { executor } = opened();
  const environment = await preparedIn(executor);
  const events: TerminalEvent[] = [];
  session.ready({
    open: async (signal) => {
      const variables = [{ key: "GREETING", value: "it's $HOME\n" }];
      if (environment.openTerminal === undefined) throw new SystemFailure("no terminal");
      return await environment.openTerminal({ variables }, signal);
    },
    tell: (event) => void events.push(event),
  });
  onTestFinished(() => session.close());
  return { offer, session, environment, events };
}

/** The status of a plain request. */
async function statusOf(url: string, ca: string, headers: Record<string, string>): Promise<number | undefined> {
  const asked = request(url, { ca, headers, agent: false }).end();
  const [answer] = await once(asked, "response");
  answer.resume();
  return answer.statusCode;
}

test("nothing is reachable without the session's own secret", async () => {
  const server = await serving();
  const { offer } = await jobOf(server);
  const { url, certificate, authorization } = offer.words;
  const other = server.offer().words;
  const asks = (path: string, secret: string): Promise<number | undefined> =>
    statusOf(path, certificate, { Authorization: secret });
  expect(await asks(`${url}/exec`, other.authorization)).toBe(401);
  expect(await asks(`${url}/exec`, "")).toBe(401);
  expect(await asks(`${url}/exec`, `Bearer ${authorization}`)).toBe(401);
  expect(await asks(`${other.url}/exec`, other.authorization)).toBe(404);
  expect(await asks(`${url}/proxy/db/5432/`, authorization)).toBe(404);
  expect(await asks(`${server.origin}/`, authorization)).toBe(404);
  expect(await asks(`${url}/exec`, authorization)).toBe(405);
  expect(await connectTerminal({ ...offer.words, authorization: other.authorization })).toBe(401);
});

test("a person gets a prompt in the checkout, with the job's public variables, in either kind of frames", async () => {
  const { offer, environment, events } = await jobOf(await serving());
  for (const protocols of [["terminal.gitlab.com"], ["base64.terminal.gitlab.com"]] as const) {
    // The one before is still being ended.
    const client = await vi.waitFor(() => atTerminal(offer.words, { protocols }), { timeout: 20_000, interval: 50 });
    expect(client.protocol).toBe(protocols[0]);
    client.type("tty; stty size; printf '<%s>' \"$GREETING\"; pwd\r");
    await client.shown(/\/dev\/pts\/\d+\r\n24 80\r\n<it's \$HOME\r\n>/);
    client.type("sleep 300\r");
    await client.shown(/sleep 300\r\n/);
    client.type("\x03");
    // Ctrl-C takes with it what was typed and nobody has read yet.
    await client.shown(/\^C[\s\S]*[#$] /);
    client.type("echo status-$?\r");
    await client.shown(/status-130/);
    client.type("exit\r");
    expect(await client.closed).toBe(1000);
  }
  await vi.waitFor(() => expect(events.map(({ is }) => is)).toEqual(["opened", "closed", "opened", "closed"]), 20_000);
  expect(environment.workspace.root).not.toBe("");
});

test("one person at a time; what was started in a terminal ends with it", async () => {
  const { offer, environment } = await jobOf(await serving());
  const first = await atTerminal(offer.words);
  first.type("trap '' HUP; sleep 4321 & echo pid-$!-\r");
  const [, pid = ""] = await first.shown(/pid-(\d+)-/);
  expect(await connectTerminal(offer.words)).toBe(423);
  expect(existsSync(`/proc/${pid}`)).toBe(true);
  await first.close();
  await vi.waitFor(() => expect(existsSync(`/proc/${pid}`)).toBe(false), { timeout: 20_000, interval: 50 });
  await vi.waitFor(async () => (await atTerminal(offer.words)).close(), { timeout: 20_000, interval: 50 });
  expect(environment.shell).toBe("bash");
});

test("a program waits for a reader that does not read", async () => {
  const { offer, environment } = await jobOf(await serving());
  const client = await atTerminal(offer.words);
  const progress = join(environment.workspace.tmpDir, "progress");
  const count = (): number => (existsSync(progress) ? Number(readFileSync(progress, "utf8")) : 0);
  client.type(
    `stty -echo; i=0; while [ $i -lt 250 ]; do head -c 65536 /dev/zero | tr '\\0' x; i=$((i+1)); echo $i > ${progress}; done; echo all-done\r`,
  );
  await client.shown(/xxxx/);
  client.socket.pause();
  let before = -1;
  await vi.waitFor(
    () => {
      const now = count();
      const stands = now === before && now > 0;
      before = now;
      if (!stands) throw new Error("it still goes on");
    },
    { timeout: 30_000, interval: 500 },
  );
  expect(count()).toBeLessThan(250);
  client.socket.resume();
  await client.shown(/all-done/);
  expect(count()).toBe(250);
}, 60_000);

test("a job stays open for its terminal, until that is closed, the time is over, or something stops it", async () => {
  const { offer, session } = await jobOf(await serving());
  const told: number[] = [];
  const hold = (ms: number, signal = never): Promise<void> =>
    session.hold(ms, (limit) => void told.push(limit), signal);
  await hold(60_000);
  expect(told).toEqual([]);
  const client = await atTerminal(offer.words);
  await hold(100);
  const stop = new AbortController();
  const stopped = hold(50_000, stop.signal);
  stop.abort(new Error("the runner ends"));
  await stopped;
  const left = hold(40_000);
  await client.close();
  await left;
  expect(told).toEqual([100, 50_000, 40_000]);
});

test("the job's end ends its terminal, and takes it out of reach", async () => {
  const { offer, session } = await jobOf(await serving());
  const client = await atTerminal(offer.words);
  await session.close();
  expect(await client.closed).toBe(1001);
  expect(await connectTerminal(offer.words)).toBe(404);
});

test("whoever comes before the job's place is there waits for it; one that cannot be is an error", async () => {
  const server = await serving();
  const early = server.offer();
  const session = early.claim();
  const coming = connectTerminal(early.words);
  session.ready({
    open: async () => {
      throw new SystemFailure("there is none");
    },
    tell: () => {},
  });
  expect(await coming).toBe(500);
  const gone = server.offer();
  const over = gone.claim();
  const waiting = connectTerminal(gone.words);
  const other = server.offer();
  expect(await connectTerminal(other.words)).toBe(404);
  await vi.waitFor(async () => {
    expect(await connectTerminal(gone.words)).toBe(423);
  });
  await over.close();
  expect(await waiting).toBe(503);
});

test("a certificate for another host is refused by whoever trusts that alone; silent callers are let go", async () => {
  const server = await serving("runner.example.com");
  const { words } = server.offer();
  const here = words.url.replace("runner.example.com", "127.0.0.1");
  await expect(connectTerminal({ ...words, url: here })).rejects.toThrow(/altnames|Hostname/i);
  const { port } = new URL(words.url);
  const silent = connect(Number(port), "127.0.0.1");
  await once(silent, "connect");
  silent.write("GET / HTTP/1.1\r\n\r\n");
  silent.on("error", () => {});
  await once(silent, "close");
});

test("a certificate of the operator's is used and told; one that is none is named with its key", async () => {
  const dir = mkdtempSync(join(tmpdir(), "alloy-session-"));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  const own = makeCertificate("127.0.0.1");
  const tls = { certFile: join(dir, "it.crt"), keyFile: join(dir, "it.key") };
  writeFileSync(tls.certFile, own.certificate);
  const port = await freePort();
  const address = { host: "127.0.0.1", port };
  const config = { listen: address, advertise: address, sessionTimeoutMs: 60_000, tls };
  await expect(openSessionServer(config, silentLog)).rejects.toThrow(`Cannot read ${tls.keyFile} (tls_key_file in`);
  writeFileSync(tls.keyFile, makeCertificate("127.0.0.1").key);
  await expect(openSessionServer(config, silentLog)).rejects.toThrow("are no certificate in PEM with its key");
  writeFileSync(tls.keyFile, own.key);
  const server = await openSessionServer(config, silentLog);
  onTestFinished(() => server.close());
  const { words } = server.offer();
  expect(words.certificate).toBe(own.certificate);
  expect(await connectTerminal(words)).toBe(404);
});
