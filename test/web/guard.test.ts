import { once } from "node:events";
import { type IncomingHttpHeaders, type RequestOptions, request } from "node:http";
import { connect, type Socket } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { openStand, type Stand } from "./stand.ts";

const PASSWORD = "correct horse ☃ battery";
const basic = (password: string): string => `Basic ${Buffer.from(`:${password}`).toString("base64")}`;

let stand: Stand;
afterEach(async () => await stand.close());

interface Answered {
  readonly status: number | undefined;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

function asked(path: string, options: RequestOptions = {}) {
  return request(new URL(path, stand.url), options).end();
}

async function ask(path: string, options: RequestOptions = {}): Promise<Answered> {
  const sent = asked(path, options);
  const [answer] = await once(sent, "response");
  let body = "";
  for await (const chunk of answer) body += chunk;
  return { status: answer.statusCode, headers: answer.headers, body };
}

/** What a stream says until `wanted` is in it, and how to end it. */
async function hear(path: string, wanted: string, headers: Record<string, string> = {}) {
  const sent = asked(path, { headers });
  const [answer] = await once(sent, "response");
  let text = "";
  const ended = new Promise((resolve) => answer.on("close", resolve));
  answer.on("error", () => {});
  await new Promise<void>((resolve) => {
    answer.on("data", (chunk: Buffer) => {
      text += chunk;
      if (text.includes(wanted)) resolve();
    });
  });
  return { text: () => text, ended, end: () => sent.destroy() };
}

describe("without a password", () => {
  test("everybody who reaches the address looks", async () => {
    stand = await openStand();
    const page = await ask("/");
    expect(page.status).toBe(200);
    expect(page.body).toContain('<script type="module" src="/page.js">');
    expect(page.body).not.toMatch(/<script(?![^>]*src=)|<style| on\w+=|https?:/);
    expect(page.headers).toMatchObject({
      "x-frame-options": "DENY",
      "x-content-type-options": "nosniff",
      "referrer-policy": "no-referrer",
      "cross-origin-resource-policy": "same-origin",
    });
    const policy = String(page.headers["content-security-policy"]);
    expect(policy).toContain("default-src 'none'; script-src 'self'; style-src 'self'");
    expect(policy).not.toMatch(/unsafe|https?:|\*/);
    expect(JSON.parse((await ask("/api/access")).body)).toMatchObject({ signedIn: true, csrf: null });
    expect(JSON.parse((await ask("/api/status")).body)).toMatchObject({ concurrent: 10, jobs: [] });
  });

  test.each(["pause", "resume", "drain", "reload", "jobs/1/cancel"])("nobody orders: %s", async (what) => {
    stand = await openStand();
    const job = stand.addJob();
    const refused = await ask(`/api/${what}`, { method: "POST", headers: { authorization: basic("") } });
    expect(refused.status).toBe(403);
    expect(refused.body).toContain("set [web] password");
    expect(stand.told).toEqual([]);
    expect(job.canceled()).toBe(false);
  });

  test.each([
    ["rebound.example.com", 403],
    ["localhost:9253", 200],
    ["127.0.0.1:1", 200],
    ["[::1]:9253", 200],
  ])("a request for the host %s is answered %i", async (host, status) => {
    stand = await openStand();
    const answered = await ask("/api/status", { headers: { host } });
    expect(answered.status).toBe(status);
    if (status === 403) expect(answered.body).toContain(`not to the name \\"${host}\\"`);
  });
});

describe("from another site", () => {
  test.each([
    ["/api/status", { "sec-fetch-site": "cross-site" }],
    ["/api/events", { "sec-fetch-site": "same-site", "sec-fetch-mode": "cors" }],
    ["/page.js", { "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors" }],
  ])("%s is refused", async (path, headers) => {
    stand = await openStand();
    expect((await ask(path, { headers })).status).toBe(403);
  });

  test("a link to the page is followed", async () => {
    stand = await openStand();
    const headers = { "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate" };
    expect((await ask("/", { headers })).status).toBe(200);
  });

  test("nothing says that other origins may read it", async () => {
    stand = await openStand();
    const { headers } = await ask("/api/status", { headers: { origin: "https://evil.example.com" } });
    expect(Object.keys(headers).filter((name) => name.startsWith("access-control"))).toEqual([]);
  });
});

describe("with a password", () => {
  const signIn = async (password = PASSWORD): Promise<Answered> =>
    await ask("/api/sign-in", { method: "POST", headers: { authorization: basic(password) } });
  const cookieOf = ({ headers }: Answered): string => String(headers["set-cookie"]?.[0]).split(";", 1)[0] ?? "";

  test("nothing of the runner is told before it was said", async () => {
    stand = await openStand({ password: PASSWORD });
    stand.addJob({ title: "acme/secret-project: job" }).print("output\n");
    for (const path of ["/api/status", "/api/events", "/api/jobs/1/trace", "/api/nothing"]) {
      const refused = await ask(path);
      expect([path, refused.status]).toEqual([path, 401]);
      expect(refused.body).not.toContain("acme");
      // A browser would keep a password that it asks for itself, and send it with orders of other sites.
      expect(refused.headers["www-authenticate"]).toBeUndefined();
    }
    expect(JSON.parse((await ask("/api/access")).body)).toEqual({ signedIn: false, csrf: "", version: "" });
    expect((await ask("/api/sign-in", { method: "POST" })).status).toBe(401);
    expect((await signIn("wrong horse battery")).status).toBe(401);
    expect(stand.logged.join("")).toContain("wrong password");
    expect(stand.logged.join("")).not.toContain("wrong horse");
  });

  test("a cookie opens the page, and orders need the page's token besides", async () => {
    stand = await openStand({ password: PASSWORD });
    stand.addRunner("one", { at: "paused" });
    const signed = await signIn();
    expect(signed.status).toBe(204);
    expect(signed.headers["set-cookie"]?.[0]).toMatch(/; Path=\/; HttpOnly; SameSite=Strict; Max-Age=43200$/);
    const cookie = cookieOf(signed);
    const { csrf } = JSON.parse((await ask("/api/access", { headers: { cookie } })).body);
    const token = { "x-csrf-token": csrf };
    const { host, origin } = new URL(stand.url);
    const order = async (headers: Record<string, string>): Promise<number | undefined> =>
      (await ask("/api/pause?runner=one", { method: "POST", headers: { cookie, ...headers } })).status;
    expect(await order({})).toBe(403);
    expect(await order({ "x-csrf-token": "guessed" })).toBe(403);
    expect(await order({ ...token, origin: "https://evil.example.com" })).toBe(403);
    expect(await order({ ...token, origin: "null" })).toBe(403);
    expect(await order({ ...token, "sec-fetch-site": "cross-site" })).toBe(403);
    expect(stand.told).toEqual([]);
    expect(await order({ ...token, origin, host })).toBe(200);
    expect(stand.told).toEqual([["pause", ["one"]]]);
    expect(await order({ ...token, cookie: "" })).toBe(401);
  });

  test("a program says it with each order", async () => {
    stand = await openStand({ password: PASSWORD });
    const job = stand.addJob();
    const headers = { authorization: basic(PASSWORD), host: "ci.example.com" };
    expect((await ask("/api/jobs/1/cancel", { method: "POST", headers })).status).toBe(200);
    expect(job.canceled()).toBe(true);
  });

  test("who signs out sees nothing more, also of what is open", async () => {
    stand = await openStand({ password: PASSWORD });
    const cookie = cookieOf(await signIn());
    const other = cookieOf(await signIn());
    const { csrf } = JSON.parse((await ask("/api/access", { headers: { cookie } })).body);
    const open = await hear("/api/events", "event: whole", { cookie });
    const stays = await hear("/api/events", "event: whole", { cookie: other });
    const out = await ask("/api/sign-out", { method: "POST", headers: { cookie, "x-csrf-token": csrf } });
    expect(out.headers["set-cookie"]?.[0]).toContain("Max-Age=0");
    await open.ended;
    expect((await ask("/api/status", { headers: { cookie } })).status).toBe(401);
    expect((await ask("/api/status", { headers: { cookie: other } })).status).toBe(200);
    stays.end();
  });

  test("behind a proxy that speaks TLS the cookie never goes without it", async () => {
    stand = await openStand({ password: PASSWORD });
    const headers = { authorization: basic(PASSWORD), "x-forwarded-proto": "https" };
    const signed = await ask("/api/sign-in", { method: "POST", headers });
    expect(signed.headers["set-cookie"]?.[0]).toMatch(/; Secure$/);
  });
});

describe("what is streamed", () => {
  test("a trace goes on behind what a lost connection had brought, whatever characters were torn", async () => {
    stand = await openStand();
    const job = stand.addJob();
    const text = `${"€".repeat(40_000)}\n`;
    job.print(text);
    job.endTrace();
    const whole = await hear("/api/jobs/1/trace?follow=1", '"end"');
    const pieces = [...whole.text().matchAll(/^id: (\d+)\ndata: (.*)$/gm)].map(([, id = "", data = ""]) => ({
      id,
      text: String(JSON.parse(data).text ?? ""),
    }));
    expect(pieces.map((piece) => piece.text).join("")).toBe(text);
    expect(pieces.length).toBeGreaterThan(2);
    for (const [index, { id }] of pieces.entries()) {
      const rest = await hear("/api/jobs/1/trace?follow=1", '"end"', { "last-event-id": id });
      const more = [...rest.text().matchAll(/^data: (.*)$/gm)].map(([, data = ""]) => JSON.parse(data).text ?? "");
      expect(more.join("")).toBe(
        pieces
          .slice(index + 1)
          .map((piece) => piece.text)
          .join(""),
      );
    }
  });

  test("jobs that come, print and end are told, and the last ones with the whole", async () => {
    stand = await openStand();
    stand.addJob({ id: "7", queuedSeconds: 3 }).print("hello\n");
    const feed = await hear("/api/events", "event: whole");
    expect(feed.text()).toContain('"lastLine":"hello"');
    expect(feed.text()).toContain('"queuedSeconds":3');
    const job = stand.addJob({ id: "8" });
    job.print("first words\n");
    job.moved({ at: "finished", outcome: { result: "success" } });
    job.end();
    const later = await hear("/api/events", "event: whole");
    expect(later.text()).toMatch(/"finished":\[\{"id":"8".*"state":"ended"/);
    await expect.poll(feed.text, { timeout: 15_000 }).toMatch(/event: jobs\ndata: .*"id":"8".*"state":"ended"/);
    feed.end();
    later.end();
  });

  test("whoever does not read is cut off", async () => {
    stand = await openStand();
    const open = (): Socket => {
      const socket = connect(Number(new URL(stand.url).port), "127.0.0.1").on("error", () => {});
      socket.write("GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n");
      return socket;
    };
    const lazy = open();
    const ended = new Promise((resolve) => lazy.on("close", resolve));
    await once(lazy, "readable");
    const job = stand.addJob({ title: "x".repeat(2_000_000) });
    /** An event has come to its end. */
    const whole = (socket: Socket): Promise<void> =>
      new Promise((resolve) => {
        const onData = (chunk: Buffer): void => {
          if (!chunk.subarray(-2).equals(Buffer.from("\n\n"))) return;
          socket.off("data", onData);
          resolve();
        };
        socket.on("data", onData);
      });
    const reader = open().resume();
    await whole(reader);
    for (let round = 0; round < 40; round++) {
      job.print("more\n");
      await whole(reader);
    }
    reader.destroy();
    let bytes = 0;
    lazy.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
    });
    await ended;
    expect(bytes).toBeLessThan(40 * 2_000_000);
  }, 60_000);
});
