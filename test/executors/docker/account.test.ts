import { expect, test } from "vitest";
import { inNumbers, isNamed, isRoot, lookUp } from "../../../executors/docker/job/accounts/account.ts";

const files = {
  passwd:
    "root:x:0:0:root:/root:/bin/sh\nbuilder:x:1000:1001::/home/builder:/bin/sh\n\nodd:x:none:5\n1002:x:0:0::/:/bin/sh\nbroken\n",
  group: "root:x:0:\nbuilder:x:1001:\nvideo:x:44:other,builder\nalso:x:1001:builder\n",
};

test.each([
  ["builder", { uid: 1000, gid: 1001, groups: [44] }],
  ["1000", { uid: 1000, gid: 1001, groups: [44] }],
  ["+1000", { uid: 1000, gid: 1001, groups: [44] }],
  ["7", { uid: 7, gid: 0, groups: [] }],
  // A number stays a number, even where a user has it as a name.
  ["1002", { uid: 1002, gid: 0, groups: [] }],
  ["builder:video", { uid: 1000, gid: 44, groups: [] }],
  ["builder:9", { uid: 1000, gid: 9, groups: [] }],
  ["7:video", { uid: 7, gid: 44, groups: [] }],
  // A text that is not a number counts as none, as engines read it.
  ["odd", { uid: 0, gid: 5, groups: [] }],
  ["nobody", { missing: "nobody" }],
  ["builder:nobody", { missing: "nobody" }],
  ["broken", { uid: 0, gid: 0, groups: [] }],
])("%s is looked up as engines do", (text, expected) => {
  expect(lookUp(text, files)).toEqual(expected);
});

test("root is root without a look, and numbers need none", () => {
  for (const text of ["", "0", "root", "root:video", "00", "-0", "0:44"]) expect(isRoot(text), text).toBe(true);
  for (const text of ["1000", "builder", "rooty"]) expect(isRoot(text), text).toBe(false);
  expect(inNumbers("1000:1001")).toEqual({ uid: 1000, gid: 1001, groups: [] });
  for (const text of ["1000", "builder:1001", "1000:builder"]) expect(inNumbers(text), text).toBeNull();
  expect([isNamed("builder:5"), isNamed("1000:video")]).toEqual([true, false]);
});
