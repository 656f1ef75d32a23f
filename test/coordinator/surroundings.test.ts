/** These tests are about what surrounds a call: Retry-After, proxies, names and the API's address. */
import { describe, expect, test } from "vitest";
import { apiUrl } from "../../src/coordinator/api-url.ts";
import { createLookup } from "../../src/coordinator/connection/lookup.ts";
import { retryAfter } from "../../src/coordinator/retry-after.ts";
import { proxyFor } from "../../src/proxy/proxy.ts";

describe("the API's address", () => {
  test.each([
    ["https://x.example", "https://x.example", "/api/v4"],
    ["https://x.example/ci", "https://x.example", "/api/v4"],
    ["https://x.example:8443/gitlab/ci///", "https://x.example:8443", "/gitlab/api/v4"],
    ["http://x.example/a/ci/b/", "http://x.example", "/a/ci/b/api/v4"],
    ["http://[::1]:99/?private_token=x#y", "http://[::1]:99", "/api/v4"],
  ])("of %s is %s%s", (url, origin, path) => {
    expect(apiUrl(new URL(url))).toMatchObject({ origin, path });
  });
  test("is shown without user info and query, which becomes a header", () => {
    const api = apiUrl(new URL("https://me:p%40ss@x.example/p?token=1"));
    expect(api.shown).toBe("https://x.example/p");
    expect(api.authorization).toBe(`Basic ${Buffer.from("me:p@ss").toString("base64")}`);
  });
  test("is refused for another scheme", () => {
    expect(() => apiUrl(new URL("ftp://x.example"))).toThrow(/ftp:.*http or https/);
  });
});

describe("the wait that a coordinator asks for", () => {
  const date = "Tue, 01 Sep 2026 10:00:00 GMT";
  test.each([
    [{ "retry-after": "7" }, 7000],
    [{ "retry-after": "0" }, 0],
    [{ "retry-after": "100000" }, 300_000],
    [{ "retry-after": "-5" }, undefined],
    [{ "retry-after": "soon" }, undefined],
    [{ "retry-after": "" }, undefined],
    [{}, undefined],
    [{ "retry-after": "Tue, 01 Sep 2026 10:00:30 GMT", date }, 30_000],
    [{ "retry-after": "Tue, 01 Sep 2026 09:00:00 GMT", date }, undefined],
    [{ "retry-after": "Fri, 01 Sep 2126 10:00:00 GMT", date }, 300_000],
    [{ "ratelimit-resettime": "Tue, 01 Sep 2026 10:00:05 GMT", "retry-after": "60", date }, 5000],
    [{ "ratelimit-resettime": "nonsense", "retry-after": ["3", "4"] }, 3000],
  ])("with %j is %s ms", (headers, ms) => {
    expect(retryAfter(headers)).toBe(ms);
  });
});

describe("the proxy", () => {
  const environment = { HTTPS_PROXY: "http://u:p@proxy.example:3128", http_proxy: "plain.example:8080" };
  const originOf = (url: string, noProxy = "", env: Record<string, string> = environment) =>
    proxyFor(new URL(url), { ...env, NO_PROXY: noProxy })?.origin;

  test("depends on the scheme, in upper or lower case, with or without a scheme of its own", () => {
    expect(originOf("https://x.example")).toBe("http://proxy.example:3128");
    expect(originOf("http://x.example")).toBe("http://plain.example:8080");
    expect(proxyFor(new URL("https://x.example"), environment)?.authorization).toBe(
      `Basic ${Buffer.from("u:p").toString("base64")}`,
    );
    expect(originOf("https://x.example", "", {})).toBeUndefined();
    expect(originOf("https://x.example", "", { HTTP_PROXY: "http://p" })).toBeUndefined();
  });
  test.each(["https://localhost", "https://127.0.0.1", "https://127.8.9.1:99", "https://[::1]", "http://LOCALHOST."])(
    "is never used for %s",
    (url) => {
      expect(originOf(url)).toBeUndefined();
    },
  );
  test.each([
    ["*", true],
    ["x.example", true],
    ["X.EXAMPLE", true],
    ["example", true],
    [".example", true],
    ["*.example", true],
    [".x.example", false],
    ["y.example, x.example", true],
    ["y.example x.example", true],
    ["x.example:443", true],
    ["x.example:444", false],
    ["le", false],
    ["10.0.0.0/8", false],
    ["x.example/zzz", false],
  ])("is not used for x.example with NO_PROXY=%s: %s", (list, exempt) => {
    expect(originOf("https://x.example", list) === undefined).toBe(exempt);
  });
  test.each([
    ["https://10.1.2.3", "10.0.0.0/8", true],
    ["https://11.1.2.3", "10.0.0.0/8", false],
    ["https://[fd00::5]", "fd00::/8", true],
    ["https://[fd00::5]", "[fd00::5]:443", true],
    ["https://[fd00::5]", "fd00::5", true],
    ["https://10.1.2.3", "2.3", false],
  ])("knows addresses and networks: %s with %s: %s", (url, list, exempt) => {
    expect(originOf(url, list) === undefined).toBe(exempt);
  });
  test("that is no HTTP proxy is an error that does not show it", () => {
    const wrong = (value: string) => () => proxyFor(new URL("https://x.example"), { HTTPS_PROXY: value });
    expect(wrong("socks5://u:secret@p:1")).toThrow(/HTTPS_PROXY: "socks5:" proxies are not supported/);
    expect(wrong("http://u:secret@:::")).toThrow(/^HTTPS_PROXY: not a URL; expected http:\/\/host:port$/);
  });
});

describe("names", () => {
  type Lookup = ReturnType<typeof createLookup>;
  const ask = (lookup: Lookup, name: string, family: 0 | 4 | 6 = 0) =>
    new Promise((resolve, reject) => {
      lookup(name, { all: true, family }, (error, addresses) => (error ? reject(error) : resolve(addresses)));
    });

  test("are asked for once by many, two at a time, and kept", async () => {
    const asked: string[] = [];
    let running = 0;
    let most = 0;
    const lookup = createLookup(async (name) => {
      asked.push(name);
      most = Math.max(most, ++running);
      await new Promise((resolve) => setImmediate(resolve));
      running--;
      return [
        { address: "192.0.2.1", family: 4 },
        { address: "2001:db8::1", family: 6 },
      ];
    });
    await Promise.all(["a", "b", "c", "d", "a", "b"].map((name) => ask(lookup, name)));
    expect(await ask(lookup, "a", 6)).toEqual([{ address: "2001:db8::1", family: 6 }]);
    expect(asked).toEqual(["a", "b", "c", "d"]);
    expect(most).toBe(2);
  });

  test("that fail are errors, and asked for again", async () => {
    let fails = true;
    const lookup = createLookup(async () => {
      if (fails) throw new Error("EAI_AGAIN");
      return [{ address: "192.0.2.1", family: 4 }];
    });
    await expect(ask(lookup, "a")).rejects.toThrow("EAI_AGAIN");
    fails = false;
    expect(await ask(lookup, "a")).toHaveLength(1);
    await expect(ask(lookup, "a", 6)).rejects.toThrow(/ENOTFOUND a/);
  });
});
