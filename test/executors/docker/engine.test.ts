import { execFile } from "node:child_process";
import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type RequestListener, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { createServer as createTcpServer, type Server as TcpServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { findEndpoint } from "../../../executors/docker/engine/endpoint.ts";
import { agreeOnVersion, connectEngine, type Engine, isGone } from "../../../executors/docker/engine/engine.ts";
import { Stop } from "../../../src/errors.ts";
import { deadline, never } from "../../../src/time.ts";
import { noEngine, testEngine } from "../../support/docker.ts";

let dir = "";
const closing: (() => Promise<unknown>)[] = [];
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "alloy-engine-"));
});
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  await rm(dir, { recursive: true, force: true });
});

const connect = async (
  host: string,
  more: { tlsCertPath?: string; tlsVerify?: boolean; env?: Record<string, string> } = {},
) => {
  const settings = { host, tlsCertPath: more.tlsCertPath ?? "", tlsVerify: more.tlsVerify ?? false };
  const engine = await connectEngine({ settings, env: more.env ?? {}, scratchDir: dir }, never);
  closing.push(() => engine.close());
  return engine;
};

async function serve(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closing.push(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return portOf(server);
}

const fake =
  (version: object, other: RequestListener = (_, response) => response.end("{}")): RequestListener =>
  (request, response) => {
    if (request.url?.endsWith("/version")) response.end(JSON.stringify(version));
    else if (request.url?.endsWith("/info")) response.end('{"Name":"far"}');
    else other(request, response);
  };
const modern = { Version: "29.1", ApiVersion: "1.52", MinAPIVersion: "1.44", Os: "linux", Arch: "arm64" };

test.each([
  ["1.41", "1.12", "1.41"],
  ["1.52", "1.44", "1.51"],
  ["1.30", undefined, "1.30"],
])("an engine that speaks %s (from %s) is spoken to in %s", (newest, oldest, agreed) => {
  expect(agreeOnVersion(newest, oldest, "x")).toBe(agreed);
});

test("an engine that is too old or too new says what to do", () => {
  expect(() => agreeOnVersion("1.18", undefined, "tcp://old")).toThrow(/tcp:\/\/old is too old.*1\.18/);
  expect(() => agreeOnVersion("1.99", "1.90", "x")).toThrow(/too new.*Update the runner/);
  expect(() => agreeOnVersion(undefined, undefined, "x")).toThrow(/no Docker engine/);
});

test.each([
  [{ host: "unix:///run/x.sock" }, {}, { kind: "socket", path: "/run/x.sock", local: true }],
  [{ host: "" }, { DOCKER_HOST: "tcp://far:1234" }, { kind: "tcp", host: "far", port: 1234, tls: null, local: false }],
  [{ host: "tcp://[::1]" }, { DOCKER_HOST: "tcp://far:1" }, { kind: "tcp", host: "::1", port: 2375, local: true }],
  [
    { host: "ssh://me@far:2222/run/d.sock" },
    {},
    { kind: "ssh", host: "far", port: 2222, user: "me", path: "/run/d.sock" },
  ],
])("%j with %j leads to %j", async (settings, env, endpoint) => {
  expect(await findEndpoint({ tlsCertPath: "", tlsVerify: false, ...settings }, env)).toMatchObject(endpoint);
});

test.each([
  "ftp://x",
  "unix://relative",
  "tcp://",
  "ssh://-oProxyCommand=x",
  "ssh://-l@far",
  "tcp://user:secret@far",
  "nonsense",
])("%s is refused with what was expected, without a password", async (host) => {
  const failure: unknown = await findEndpoint({ host, tlsCertPath: "", tlsVerify: false }, {}).catch(
    (error: unknown) => error,
  );
  expect(String(failure)).toMatch(/host in \[runners.docker\] is/);
  expect(String(failure)).not.toContain("secret");
});

test("certificates that are not there are named", async () => {
  const settings = { host: "tcp://far:2376", tlsCertPath: dir, tlsVerify: true };
  await expect(findEndpoint(settings, {})).rejects.toThrow(`Cannot read ${dir}/ca.pem`);
  await expect(findEndpoint({ ...settings, tlsCertPath: "" }, {})).rejects.toThrow(
    /name their folder in tls_cert_path/,
  );
});

test("a daemon that is away is worth a retry, and the message says what to look at", async () => {
  await expect(connect(`unix://${dir}/nothing.sock`)).rejects.toMatchObject({
    retry: true,
    message: expect.stringMatching(/does not answer \(connect ENOENT .*Is it running/),
  });
});

test("the environment of the runner does not mix with a configured host", async () => {
  const port = await serve(createServer(fake(modern)));
  process.env.DOCKER_HOST = "tcp://127.0.0.1:9";
  process.env.DOCKER_TLS_VERIFY = "1";
  try {
    const engine = await connect(`tcp://127.0.0.1:${port}`, { env: { DOCKER_HOST: "tcp://127.0.0.1:9" } });
    expect(engine).toMatchObject({
      apiVersion: "1.51",
      product: "Docker 29.1",
      architecture: "arm64",
      hostName: "far",
    });
  } finally {
    delete process.env.DOCKER_HOST;
    delete process.env.DOCKER_TLS_VERIFY;
  }
});

test("TLS asks for the daemon's certificate and shows the runner's", async () => {
  const run = promisify(execFile);
  const openssl = (args: string): Promise<unknown> => run("openssl", args.split(" "), { cwd: dir });
  await openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout ca-key.pem -out ca.pem");
  for (const [name, extension] of [
    ["server", "subjectAltName=IP:127.0.0.1"],
    ["client", "extendedKeyUsage=clientAuth"],
  ]) {
    await writeFile(join(dir, "ext"), `${extension}\n`);
    await openssl(`req -newkey rsa:2048 -nodes -subj /CN=${name} -keyout ${name}-key.pem -out ${name}.csr`);
    await openssl(
      `x509 -req -in ${name}.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 2 -extfile ext -out ${name}.pem`,
    );
  }
  const read = async (name: string): Promise<string> => await readFile(join(dir, name), "utf8");
  await writeFile(join(dir, "cert.pem"), await read("client.pem"));
  await writeFile(join(dir, "key.pem"), await read("client-key.pem"));
  const tls = { key: await read("server-key.pem"), cert: await read("server.pem"), ca: await read("ca.pem") };
  const port = await serve(createTlsServer({ ...tls, requestCert: true, rejectUnauthorized: true }, fake(modern)));
  const engine = await connect(`tcp://127.0.0.1:${port}`, { tlsCertPath: dir, tlsVerify: true });
  expect(engine.hostName).toBe("far");
  // Certificates of another authority are refused.
  await openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=other -keyout other-key.pem -out ca.pem");
  await expect(connect(`tcp://127.0.0.1:${port}`, { tlsCertPath: dir, tlsVerify: true })).rejects.toThrow(
    /ca\.pem|certificate/,
  );
});

describe("answers of a daemon", () => {
  const ask = (engine: Engine, signal = never, limitMs?: number): Promise<unknown> =>
    engine.call("look at it", (docker) => docker.getContainer("x").inspect(), signal, limitMs);

  test("its refusals keep status and words, and never more than there is room for", async () => {
    let body = '{"message":"No such container: x"}';
    let status = 404;
    const port = await serve(
      createServer(
        fake(modern, (_, response) => {
          response.statusCode = status;
          response.end(body);
        }),
      ),
    );
    const engine = await connect(`tcp://127.0.0.1:${port}`);
    const gone: unknown = await ask(engine).catch((error: unknown) => error);
    expect(isGone(gone)).toBe(true);
    expect(gone).toMatchObject({ status: 404, retry: false, message: "Cannot look at it: No such container: x" });
    status = 500;
    body = "x".repeat(1_000_000);
    const broken: unknown = await ask(engine).catch((error: unknown) => error);
    expect(broken).toMatchObject({ status: 500, retry: true });
    expect(String(broken).length).toBeLessThan(5000);
    status = 307;
    await expect(ask(engine)).rejects.toMatchObject({ status: 307 });
  });

  test("an endless answer ends, and so does a call that nobody answers", async () => {
    let hangs = false;
    const port = await serve(
      createServer(
        fake(modern, (_, response) => {
          if (hangs) return;
          const piece = Buffer.alloc(1024 * 1024, " ");
          const more = (): void => {
            if (!response.destroyed && response.write(piece)) setImmediate(more);
          };
          response.on("drain", more);
          more();
        }),
      ),
    );
    const engine = await connect(`tcp://127.0.0.1:${port}`);
    await expect(ask(engine)).rejects.toThrow(/larger than \d+ bytes/);
    hangs = true;
    await expect(ask(engine, never, 50)).rejects.toMatchObject({
      status: 0,
      retry: true,
      message: expect.stringMatching(/no answer within/),
    });
    using limit = deadline(never, 50, new Stop("canceled", "enough"));
    await expect(ask(engine, limit.signal)).rejects.toThrow("enough");
  });

  test("what is no engine is called so", async () => {
    const port = await serve(createServer((_, response) => response.end("<html>hello</html>")));
    await expect(connect(`tcp://127.0.0.1:${port}`)).rejects.toThrow(/no Docker engine/);
    const mute = createTcpServer((socket) => socket.resume().end("SSH-2.0-x\r\n"));
    await new Promise<void>((resolve) => mute.listen(0, "127.0.0.1", resolve));
    closing.push(() => new Promise((resolve) => mute.close(resolve)));
    await expect(connect(`tcp://127.0.0.1:${portOf(mute)}`)).rejects.toThrow(/does not answer/);
  });
});

const found = await testEngine("docker");

describe.skipIf(found === null)(`a real engine${found === null ? ` (skipped: ${noEngine("docker")})` : ""}`, () => {
  test("is known by its product, version and machine", async () => {
    const engine = await connect(found?.host ?? "");
    expect(engine.product).toMatch(/^Docker \d/);
    expect(engine).toMatchObject({ os: "linux", local: true, podman: false });
    await expect(ask404(engine)).rejects.toMatchObject({ status: 404 });
  });

  test("is reached by ssh as the docker command does it", async () => {
    // ssh would start this at the other end; here it runs on this machine.
    const socket = (found?.host ?? "").slice("unix://".length);
    const bin = join(dir, "ssh");
    await writeFile(bin, `#!/bin/sh\necho "$@" >>${dir}/asked\nexec python3 ${dir}/pipe.py\n`);
    await writeFile(
      join(dir, "pipe.py"),
      `import os, socket, threading
s = socket.socket(socket.AF_UNIX); s.connect(${JSON.stringify(socket)})
def up():
    while True:
        data = os.read(0, 65536)
        if not data: break
        s.sendall(data)
    s.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while True:
    data = s.recv(65536)
    if not data: break
    os.write(1, data)
`,
    );
    await chmod(bin, 0o755);
    const path = process.env.PATH;
    process.env.PATH = `${dir}:${path}`;
    try {
      const engine = await connect("ssh://builder@far.example:2222");
      expect(engine).toMatchObject({ local: false, address: expect.stringContaining("ssh://") });
      await expect(ask404(engine)).rejects.toMatchObject({ status: 404 });
      expect(await readFile(join(dir, "asked"), "utf8")).toMatch(
        /-l builder -p 2222 -- far\.example docker system dial-stdio/,
      );
      await engine.close();
    } finally {
      process.env.PATH = path;
    }
  });
});

function ask404(engine: Engine): Promise<unknown> {
  return engine.call("look", (docker) => docker.getContainer("there-is-none-of-this-name").inspect(), never);
}

function portOf(server: TcpServer): number {
  const address = server.address();
  return typeof address === "object" && address !== null ? address.port : 0;
}
