import { dirname, resolve } from "node:path";
import { expect, test } from "vitest";
import { read, refusal } from "./support.ts";

const table = (lines: string): string => `concurrent = 1\n[session_server]\n${lines}`;

test.each([
  ["", null],
  ['advertise_address = "runner.example.com"', null],
  [
    'listen_address = "10.0.0.1"',
    {
      listen: { host: "10.0.0.1", port: 8093 },
      advertise: { host: "10.0.0.1", port: 8093 },
      sessionTimeoutMs: 1_800_000,
    },
  ],
  [
    'listen_address = ":8443"\nadvertise_address = "runner.example.com"\nsession_timeout = -1',
    { listen: { port: 8443 }, advertise: { host: "runner.example.com", port: 8443 }, sessionTimeoutMs: 1_800_000 },
  ],
  [
    'listen_address = "[::]:1"\nadvertise_address = "[2001:db8::1]:2"\nsession_timeout = 600',
    { listen: { host: "::", port: 1 }, advertise: { host: "2001:db8::1", port: 2 }, sessionTimeoutMs: 600_000 },
  ],
])("%j is the server %j", async (lines, expected) => {
  const config = await read(table(lines));
  if (expected === null) expect(config.sessionServer).toBeNull();
  else expect(config.sessionServer).toMatchObject({ ...expected, tls: null });
  expect(config.warnings).toEqual([]);
});

test("certificate and key are named from where the configuration is", async () => {
  const lines = 'listen_address = "h:1"\ntls_cert_file = "session.crt"\ntls_key_file = "/etc/session.key"';
  const { file, sessionServer } = await read(table(lines));
  expect(sessionServer?.tls).toEqual({ certFile: resolve(dirname(file), "session.crt"), keyFile: "/etc/session.key" });
});

test.each([
  ['listen_address = "a:b"', '3: session_server.listen_address: "a:b" is no address'],
  ['listen_address = ":1"', "session_server.advertise_address: names no host"],
  ['listen_address = "0.0.0.0:1"\n', "session_server.advertise_address: names no host"],
  [
    'listen_address = ":1"\nadvertise_address = "https://h:1"',
    '4: session_server.advertise_address is "host:port" without a scheme',
  ],
  ['listen_address = "h:1"\ntls_cert_file = "a"', "4: session_server.tls_cert_file has no effect without tls_key_file"],
])("%j is refused", async (lines, expected) => {
  expect(await refusal(table(lines))).toContain(expected);
});
