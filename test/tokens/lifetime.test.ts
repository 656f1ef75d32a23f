import { describe, expect, test } from "vitest";
import { timeOf } from "../../src/config/entry/token-life.ts";
import { digest } from "../../src/config/identity.ts";
import { createExchanges } from "../../src/tokens/exchanges.ts";
import { exchangeAt } from "../../src/tokens/lifetime.ts";

const at = (text: string): number => Date.parse(text);
const now = at("2027-01-01T00:00:00Z");
const DAY = 86_400_000;

describe("a token is exchanged", () => {
  test.each([
    ["three quarters through its life", "2027-01-01T00:00:00Z", "2027-01-05T00:00:00Z", "2027-01-04T00:00:00Z"],
    [
      "from when it was first seen, where nobody knows when it was given out",
      null,
      "2027-01-11T00:00:00Z",
      "2027-01-08T12:00:00Z",
    ],
    ["at once when it has expired", "2026-01-01T00:00:00Z", "2026-12-31T00:00:00Z", "2026-10-01T00:00:00Z"],
    ["at once when its times make no sense", "2027-06-01T00:00:00Z", "2027-01-05T00:00:00Z", "2027-01-05T00:00:00Z"],
  ])("%s", (_, obtained, expires, expected) => {
    const life = { obtainedAtMs: obtained === null ? null : at(obtained), expiresAtMs: at(expires) };
    expect(exchangeAt(life, now)).toBe(at(expected));
  });

  test("never, where it does not expire", () => {
    expect(exchangeAt({ obtainedAtMs: now - DAY, expiresAtMs: null }, now)).toBeNull();
  });
});

test("times as they stand in files", () => {
  expect(timeOf(undefined)).toBeNull();
  expect(timeOf(new Date("0001-01-01T00:00:00Z"))).toBeNull();
  expect(timeOf("0001-01-01T00:00:00Z")).toBeNull();
  expect(timeOf(new Date(now))).toBe(now);
  expect(timeOf("2027-01-01T00:00:00Z")).toBe(now);
  expect(timeOf("soon")).toBeUndefined();
  expect(timeOf(7)).toBeUndefined();
});

test("what a token has become is found however often it was exchanged", () => {
  const exchanges = createExchanges();
  const fresh = (token: string) => ({ token, obtainedAtMs: now, expiresAtMs: null });
  exchanges.add("http://a/", digest("one"), fresh("two"));
  exchanges.add("http://a/", digest("two"), fresh("three"));
  expect(exchanges.latest("http://a/", "one")?.token).toBe("three");
  expect(exchanges.latest("http://a/", "three")).toBeUndefined();
  expect(exchanges.latest("http://b/", "one")).toBeUndefined();
});
