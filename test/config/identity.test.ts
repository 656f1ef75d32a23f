import { expect, test } from "vitest";
import { shortToken } from "../../src/config/identity.ts";

test.each([
  ["glrt-aBcDeFgHiJkLmNoPqRsT", "aBcDeFgHi"],
  ["glrt-t1_aBcDeFgHi_JkLmNoPqRs", "aBcDeFgHi"],
  ["glrt-t3_-BcDeFgHi_JkLmNoPqRs.01.1a2b3c4d5", "-BcDeFgHi"],
  ["t2_aBcDeFgHiJkLmNoPqRsT", "aBcDeFgHi"],
  ["glrtr-aBcDeFgHiJkLmNoPqRsT", "aBcDeFgHi"],
  ["glcbt-aBcDeFgHiJkLmNoPqRsT", "aBcDeFgHi"],
  ["GR1348941aBcDeFgHiJkLmNoPqRsT", "aBcDeFgHi"],
  ["aBcDeFgHiJkLmNoPqRsT", "aBcDeFgHi"],
])("of %s, %s is shown, as GitLab Runner does it", (token, short) => {
  expect(shortToken(token)).toBe(short);
});

test("of a token that nine characters would be half of, nothing is shown", () => {
  for (const token of ["", "secret", "aBcDeFgHi", "glrt-aBcDeFgHiJ", "GR1348941aBcDeFgHiJkLmNoP"])
    expect(shortToken(token)).toBe("");
});
