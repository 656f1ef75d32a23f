import { X509Certificate } from "node:crypto";
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { connect, createServer as createTcpServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer as createTlsServer } from "node:tls";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import type { CoordinatorDeps } from "../../src/coordinator/calls.ts";
import { openCoordinator } from "../../src/coordinator/client.ts";
import { createConnector } from "../../src/coordinator/connection/connect.ts";
import { createLookup } from "../../src/coordinator/connection/lookup.ts";
import { openTlsSource, tlsPlaces } from "../../src/coordinator/connection/tls.ts";
import { never } from "../../src/time.ts";
import {
  type Certificate,
  createAuthority,
  credentials,
  info,
  listen,
  noTls,
  scratch,
  site,
  testDeps,
} from "./server.ts";

let dir = "";
let authority: ReturnType<typeof createAuthority>;
let leaf: Certificate;
const sound = JSON.stringify({ id: 5, token: "jt", steps: [{ name: "script", script: ["true"] }] });

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "alloy-tls-"));
  authority = createAuthority(dir);
  leaf = authority.sign("leaf", "DNS:localhost,IP:127.0.0.1,IP:::1");
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const pair = ({ cert, key }: Certificate) => ({ cert: readFileSync(cert), key: readFileSync(key) });

async function ask(url: URL, tls: Partial<typeof noTls | Record<string, string>>, deps: CoordinatorDeps = testDeps()) {
  const coordinator = openCoordinator({ url, token: "secret-token", ...noTls, ...tls }, deps);
  const answer = await coordinator.requestJob(info, { hold: false }, never);
  return answer.kind === "trouble" ? answer.message : answer.kind;
}

describe("a certificate is verified", () => {
  test("against tls-ca-file", async () => {
    const { url } = await site(() => ({ status: 204 }), pair(leaf));
    expect(await ask(url, { tlsCaFile: authority.file })).toBe("none");
  });

  test("by its address where the url has no name", async () => {
    const { url } = await site(() => ({ status: 204 }), pair(leaf), "127.0.0.1");
    expect(await ask(url, { tlsCaFile: authority.file })).toBe("none");
  });

  test.each([
    ["an unknown issuer", () => leaf, {}, /refused: its certificate has an unknown issuer.*set tls-ca-file/],
    [
      "no issuer but itself",
      () => selfSigned(),
      {},
      /refused: its certificate is self-signed and not trusted here: set tls-ca-file/,
    ],
    [
      "the name of another host",
      () => authority.sign("other", "DNS:other.example"),
      { ca: true },
      /refused: its certificate is for other names .*localhost.*other\.example/,
    ],
    [
      "an end in the past",
      () => authority.sign("old", "DNS:localhost", ["20200101000000Z", "20200102000000Z"]),
      { ca: true },
      /refused: .*has expired \(CERT_HAS_EXPIRED\)/,
    ],
    [
      "a beginning in the future",
      () => authority.sign("new", "DNS:localhost", ["20900101000000Z", "20910102000000Z"]),
      { ca: true },
      /refused: .*not valid yet.*clocks/,
    ],
  ])("and one with %s refused, before a byte of HTTP", async (_, certificate, { ca }: { ca?: boolean }, message) => {
    vi.stubEnv("NODE_TLS_REJECT_UNAUTHORIZED", "0");
    const { url, received } = await site(() => ({ status: 204 }), pair(certificate()));
    const answer = await ask(url, ca ? { tlsCaFile: authority.file } : {});
    expect(answer).toMatch(message);
    expect(answer).toContain(url.host);
    expect(answer).not.toContain("\n");
    expect(received).toEqual([]);
  });

  test("and nothing older than TLS 1.2 spoken", async () => {
    const server = createTlsServer({
      ...pair(leaf),
      maxVersion: "TLSv1.1",
      minVersion: "TLSv1",
      ciphers: "ALL:@SECLEVEL=0",
    });
    server.on("tlsClientError", () => {});
    const port = await listen(server);
    expect(await ask(new URL(`https://localhost:${port}`), { tlsCaFile: authority.file })).toMatch(
      /TLS 1\.2|protocol|closed/i,
    );
  });

  test("and a server without TLS is told as such", async () => {
    const { url } = await site(() => ({ status: 204 }));
    expect(await ask(new URL(`https://${url.host}`), {})).toMatch(/does not speak TLS there/);
  });

  function selfSigned(): Certificate {
    const own = createAuthority(join(dir, "self"), "self");
    return { cert: own.file, key: own.file.replace(/crt$/, "key") };
  }
});

describe("certificate files", () => {
  test("are found by the host's name in the certificate directory", async () => {
    const certsDir = scratch();
    copyFileSync(authority.file, join(certsDir, "localhost.crt"));
    const { url } = await site(() => ({ status: 204 }), pair(leaf));
    expect(await ask(url, { certsDir })).toBe("none");
    expect(tlsPlaces(new URL("https://[::1]:8443"), { ...noTls, certsDir: "/c" }).ca.path).toBe(join("/c", "::1.crt"));
    expect(tlsPlaces(new URL("https://x.example:8443"), { ...noTls, certsDir: "/c" }).key.path).toBe(
      join("/c", "x.example.auth.key"),
    );
  });

  test("that are configured and cannot be used are named, with the reason", async () => {
    const files = scratch();
    const path = (name: string, text: string): string => {
      writeFileSync(join(files, name), text);
      return join(files, name);
    };
    const { url } = await site(() => ({ status: 204 }), pair(leaf));
    const good = readFileSync(authority.file, "utf8");
    const damaged = good.replace(/[A-Za-z0-9]{20}\n/, "AAAAAAAAAAAAAAAAAAAA\n");
    expect(await ask(url, { tlsCaFile: join(files, "none.crt") })).toMatch(
      /tls-ca-file ".*none\.crt" cannot be used: ENOENT/,
    );
    expect(await ask(url, { tlsCaFile: files })).toMatch(/tls-ca-file .* cannot be used: EISDIR/);
    expect(await ask(url, { tlsCaFile: path("der.crt", "0\x82\x03") })).toMatch(
      /there is no certificate in it; expected PEM/,
    );
    expect(await ask(url, { tlsCaFile: path("bad.crt", good + damaged) })).toMatch(
      /certificate 2 of 2 in it is damaged/,
    );
    expect(await ask(url, { tlsCaFile: authority.file, tlsCertFile: leaf.cert })).toMatch(
      /tls-cert-file .* it needs tls-key-file as well/,
    );
    const other = authority.sign("other-pair", "DNS:x");
    expect(await ask(url, { tlsCertFile: leaf.cert, tlsKeyFile: other.key })).toMatch(
      /tls-cert-file .* does not work together with .*other-pair\.key/,
    );
  });

  test("that are wrong cost no result: the call may be repeated", async () => {
    const { url } = await site(() => ({ status: 202 }), pair(leaf));
    const coordinator = openCoordinator({ url, token: "t", ...noTls, tlsCaFile: "/nonexistent/ca.crt" }, testDeps());
    const promise = coordinator.appendTrace(credentials("alloy"), { from: 0, bytes: Buffer.from("x") }, never);
    await expect(promise).rejects.toMatchObject({
      retry: true,
      message: expect.stringContaining("/nonexistent/ca.crt"),
    });
  });

  test("of the client are shown to a coordinator that asks", async () => {
    const client = authority.sign("client", "DNS:client");
    const { url, received } = await site(() => ({ status: 204 }), {
      ...pair(leaf),
      ca: readFileSync(authority.file),
      requestCert: true,
      rejectUnauthorized: true,
    });
    const refused = new RegExp(
      `^Cannot request a job from ${url.origin}: the TLS handshake was refused by ${url.host}.*tls-cert-file is missing .* or not accepted`,
    );
    expect(await ask(url, { tlsCaFile: authority.file })).toMatch(refused);
    const stranger = createAuthority(join(dir, "stranger"), "stranger").sign("client", "DNS:client");
    expect(await ask(url, { tlsCaFile: authority.file, tlsCertFile: stranger.cert, tlsKeyFile: stranger.key })).toMatch(
      refused,
    );
    expect(received).toEqual([]);
    expect(await ask(url, { tlsCaFile: authority.file, tlsCertFile: client.cert, tlsKeyFile: client.key })).toBe(
      "none",
    );
  });

  test("are read again when they change, whatever their date", async () => {
    const files = scratch();
    const ca = join(files, "ca.crt");
    const second = createAuthority(join(dir, "second"), "second");
    copyFileSync(authority.file, ca);
    const old = new Date("2001-01-01");
    utimesSync(ca, old, old);
    const source = openTlsSource(tlsPlaces(new URL("https://x"), { ...noTls, tlsCaFile: ca }), () => [], 10);
    const before = await source.current();
    expect(await source.current()).toBe(before);
    const inode = statSync(ca).ino;
    copyFileSync(second.file, ca);
    utimesSync(ca, old, old);
    expect(statSync(ca)).toMatchObject({ ino: inode, mtimeMs: old.getTime() });
    await vi.waitFor(async () => expect((await source.current()).ca).toBe(readFileSync(second.file, "utf8")), {
      timeout: 30_000,
      interval: 10,
    });
    const after = await source.current();
    expect(await source.current()).toBe(after);
  });

  test("that changed end the connections made with the old ones", async () => {
    const certsDir = scratch();
    mkdirSync(certsDir, { recursive: true });
    const { url, received } = await site(() => ({ status: 204 }), pair(leaf));
    const deps = testDeps();
    expect(await ask(url, { certsDir }, deps)).toMatch(/unknown issuer/);
    copyFileSync(authority.file, join(certsDir, "localhost.crt"));
    await vi.waitFor(async () => expect(await ask(url, { certsDir }, deps)).toBe("none"), {
      timeout: 30_000,
      interval: 10,
    });
    rmSync(join(certsDir, "localhost.crt"));
    await vi.waitFor(async () => expect(await ask(url, { certsDir }, deps)).toMatch(/unknown issuer/), {
      timeout: 30_000,
      interval: 10,
    });
    expect(received.length).toBeGreaterThan(0);
  });
});

describe("a job is given", () => {
  test("the CA file's text and the client's pair", async () => {
    const client = authority.sign("client2", "DNS:client");
    const { url } = await site(() => ({ status: 201, body: sound }), pair(leaf));
    const settings = { ...noTls, tlsCaFile: authority.file, tlsCertFile: client.cert, tlsKeyFile: client.key };
    const answer = await openCoordinator({ url, token: "t", ...settings }, testDeps()).requestJob(
      info,
      { hold: false },
      never,
    );
    expect(answer.kind === "job" && answer.job.serverTls).toEqual({
      ca: readFileSync(authority.file, "utf8"),
      caConfigured: true,
      cert: readFileSync(client.cert, "utf8"),
      key: readFileSync(client.key, "utf8"),
    });
  });

  test("the chain of the coordinator where there is no CA file, also over a resumed session", async () => {
    const certsDir = scratch();
    copyFileSync(authority.file, join(certsDir, "localhost.crt"));
    const { url } = await site(() => ({ status: 201, headers: { connection: "close" }, body: sound }), pair(leaf));
    const material = await openTlsSource(tlsPlaces(url, { ...noTls, certsDir }), () => [], 10).current();
    const connector = createConnector({
      origin: url,
      proxy: undefined,
      lookup: createLookup(),
      tls: material,
      proxyContext: () => material.context,
    });
    for (let round = 0; round < 3; round++) {
      const socket = await connector.open(never);
      await new Promise(
        (resolve) =>
          socket.write("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n") &&
          socket.resume().on("close", resolve),
      );
      const [own, issuer] = (connector.peerChain ?? "").split(/(?<=-----END CERTIFICATE-----\n)/);
      expect(new X509Certificate(own ?? "").subject).toBe("CN=leaf");
      expect(new X509Certificate(issuer ?? "").subject).toBe("CN=authority");
    }
  });
});

describe("a proxy", () => {
  /** Starts a proxy that knows only CONNECT and leads to `port`, whatever place it is asked for. */
  async function tunnelTo(port: string, status = "200 OK") {
    const asked: string[] = [];
    const server = createTcpServer((socket: Socket) => {
      socket.once("data", (data) => {
        asked.push(String(data));
        socket.write(`HTTP/1.1 ${status}\r\n\r\n`);
        if (!status.startsWith("200")) return void socket.end();
        const upstream = connect(Number(port), "127.0.0.1");
        upstream.on("error", () => socket.destroy()).on("close", () => socket.destroy());
        socket.on("error", () => upstream.destroy()).on("close", () => upstream.destroy());
        socket.pipe(upstream).pipe(socket);
      });
    });
    return { url: `http://user:proxy-secret@127.0.0.1:${await listen(server)}`, asked };
  }

  test("is asked for a tunnel by https, and sees nothing of what goes through it", async () => {
    const outside = authority.sign("outside", "DNS:coordinator.example");
    const { url, received } = await site(() => ({ status: 204 }), pair(outside));
    const proxy = await tunnelTo(url.port);
    const deps = testDeps({ environment: { https_proxy: proxy.url } });
    expect(await ask(new URL("https://coordinator.example"), { tlsCaFile: authority.file }, deps)).toBe("none");
    expect(await ask(new URL("https://coordinator.example"), { tlsCaFile: authority.file }, deps)).toBe("none");
    expect(received).toHaveLength(2);
    expect(proxy.asked).toHaveLength(1);
    expect(proxy.asked[0]).toContain("CONNECT coordinator.example:443 HTTP/1.1");
    expect(proxy.asked[0]).toContain(
      `proxy-authorization: Basic ${Buffer.from("user:proxy-secret").toString("base64")}`,
    );
    expect(proxy.asked[0]).not.toContain("secret-token");
    expect(JSON.stringify(received[0]?.headers)).not.toContain("proxy");
  });

  test("that refuses or is away is named without its password", async () => {
    const proxy = await tunnelTo("1", "403 Forbidden");
    const refusing = testDeps({ environment: { HTTPS_PROXY: proxy.url } });
    expect(await ask(new URL("https://coordinator.example"), {}, refusing)).toMatch(
      /proxy http:\/\/127\.0\.0\.1:\d+: it refused a tunnel to coordinator\.example:443 with status 403$/,
    );
    const away = testDeps({ environment: { HTTPS_PROXY: "http://user:proxy-secret@127.0.0.1:1" } });
    expect(await ask(new URL("https://coordinator.example"), {}, away)).toMatch(
      /: proxy http:\/\/127\.0\.0\.1:1: connect ECONNREFUSED 127\.0\.0\.1:1$/,
    );
  });

  test("is given the whole address by http", async () => {
    const { url, received } = await site(() => ({ status: 204 }));
    const deps = testDeps({ environment: { HTTP_PROXY: `http://u:p@${url.host}`.replace("localhost", "127.0.0.1") } });
    expect(await ask(new URL("http://coordinator.example:8080/ci"), {}, deps)).toBe("none");
    expect(received[0]).toMatchObject({ path: "http://coordinator.example:8080/api/v4/jobs/request" });
    expect(received[0]?.headers).toMatchObject({
      host: "coordinator.example:8080",
      "proxy-authorization": `Basic ${Buffer.from("u:p").toString("base64")}`,
    });
  });

  test("is not used for loopback", async () => {
    const { url, received } = await site(() => ({ status: 204 }));
    expect(await ask(url, {}, testDeps({ environment: { HTTP_PROXY: "http://127.0.0.1:1" } }))).toBe("none");
    expect(received).toHaveLength(1);
  });

  test("that is no HTTP proxy is trouble, not an end", async () => {
    const deps = testDeps({ environment: { HTTP_PROXY: "socks5://127.0.0.1:1" } });
    expect(await ask(new URL("http://coordinator.example"), {}, deps)).toMatch(
      /HTTP_PROXY: "socks5:" proxies are not supported/,
    );
  });
});
