import { createServer } from "node:http";
import { expect, onTestFinished, test } from "vitest";
import { createConnections } from "../../src/coordinator/connection/connections.ts";
import { isLinkLocal } from "../../src/coordinator/connection/link-local.ts";
import { createLookup } from "../../src/coordinator/connection/lookup.ts";
import { fetchElsewhere } from "../../src/coordinator/connection/redirected.ts";
import { never } from "../../src/time.ts";
import { noTls, testDeps } from "./server.ts";

/** Follows a redirect to `host`, where each look-up of its addresses gets the next answer. */
async function follow(host: string, answers: readonly (readonly string[])[]) {
  const server = createServer((_request, response) => response.end("content"));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  let asked = 0;
  const lookup = createLookup(async () => {
    const answer = answers[Math.min(asked++, answers.length - 1)] ?? [];
    return answer.map((each) => ({ address: each, family: each.includes(":") ? 6 : 4 }));
  });
  const connections = createConnections({ lookup });
  onTestFinished(() => connections.close());
  const pieces: Buffer[] = [];
  const options = {
    sink: (piece: Uint8Array) => void pieces.push(Buffer.from(piece)),
    target: { url: new URL("http://coordinator.test/"), ...noTls },
    deps: { ...testDeps(), connections },
    bounds: { jobRequestMs: 1000, silenceMs: 1000, uploadSilenceMs: 1000 },
    what: "download the artifacts",
  };
  const reply = await fetchElsewhere(new URL(`http://${host}:${port}/x`), options, never).catch(
    (error: unknown) => error,
  );
  return { reply, asked, content: Buffer.concat(pieces).toString() };
}

test("a name is resolved once, and what was judged is connected to", async () => {
  // A name server that is asked twice could give a harmless answer first.
  const { reply, asked, content } = await follow("flips.test", [["127.0.0.1"], ["169.254.169.254"]]);
  expect(reply).toMatchObject({ kind: "answer" });
  expect([asked, content]).toEqual([1, "content"]);
});

test.each([[["169.254.169.254"]], [["127.0.0.1", "fe80::1"]], [["::ffff:169.254.169.254"]]])(
  "a name that stands for %j is not asked",
  async (addresses) => {
    const { reply, content } = await follow("metadata.test", [addresses]);
    expect(String(reply)).toMatch(/Cannot download the artifacts: .*metadata\.test:\d+, a link-local address/);
    expect(content).toBe("");
  },
);

test("of the ways to where strangers want, only those that were used last are kept", () => {
  const connections = createConnections();
  onTestFinished(() => connections.close());
  const wary = (host: string) => connections.route(new URL(`https://${host}.test`), noTls, isLinkLocal);
  const coordinator = connections.route(new URL("https://first.test"), noTls);
  const [first, busy] = [wary("first"), wary("busy")];
  for (let index = 0; index < 100; index++) {
    wary(`store-${index}`);
    expect(wary("busy")).toBe(busy);
  }
  expect(wary("first")).not.toBe(first);
  expect(connections.route(new URL("https://first.test"), noTls)).toBe(coordinator);
});
