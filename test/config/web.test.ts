import { expect, test } from "vitest";
import { read, refusal } from "./support.ts";

const web = (lines: string): string => `concurrent = 1\n[web]\n${lines}`;

test.each([
  ["", null],
  ['listen_address = ""', null],
  ['password = "twelve characters"', null],
  ['listen_address = ":8080"', { host: "127.0.0.1", port: 8080, password: null }],
  ['listen_address = "localhost"', { host: "localhost", port: 9253, password: null }],
  ['listen_address = "[::1]:80"', { host: "::1", port: 80, password: null }],
  [
    'listen_address = "0.0.0.0:9253"\npassword = "twelve characters"',
    { host: "0.0.0.0", port: 9253, password: "twelve characters" },
  ],
])("%j is the page %j", async (lines, expected) => {
  const config = await read(web(lines));
  expect(config.web).toEqual(expected);
  expect(config.warnings).toEqual([]);
});

test.each([
  ['listen_address = "nonsense:port"', '3: web.listen_address: "nonsense:port" is no address: write ":port"'],
  ['listen_address = "0.0.0.0"', "3: web.listen_address: would show jobs and traces to everybody who reaches 0.0.0.0"],
  ['listen_address = "10.0.0.1:1"\npassword = ""', "3: web.listen_address: would show jobs"],
  ['listen_address = ":1"\npassword = "short one"', "4: web.password is too short: write at least 12 characters"],
  ['listen_address = ":1"\npassword = "$NOWHERE_TO_BE_FOUND"', "4: web.password: needs $NOWHERE_TO_BE_FOUND"],
  ["listen_address = 9253", "3: web.listen_address: expected text in quotes, found 9253"],
])("%j is refused", async (lines, expected) => {
  const refused = await refusal(web(lines));
  expect(refused).toContain(expected);
  expect(refused).not.toContain("short one");
});

test("a password comes from the environment", async () => {
  const text = web('listen_address = ":1"\npassword = "$PAGE"');
  const config = await read(text, { env: { PAGE: "from the environment" } });
  expect(config.web?.password).toBe("from the environment");
});

test("a key that is none is warned about with the nearest one", async () => {
  const { warnings } = await read(web('listen_adress = ":1"'));
  expect(warnings.join("")).toContain("listen_address");
});
