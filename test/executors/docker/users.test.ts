import { expect, test } from "vitest";
import { isAllowedUser } from "../../../executors/images/users.ts";

test.each([
  // The columns are: asked for, listed, allowed.
  ["1000", "1000", true],
  ["01000", "1000", true],
  ["+1000", "1000", true],
  ["builder", "builder", true],
  ["root", "0", true],
  ["0", "root", true],
  ["-0", "root", true],
  ["0:0", "root:root", true],
  ["1000:root", "1000:0", true],
  // Membership in a group is a right, too.
  ["1000:0", "1000", false],
  ["1000:docker", "1000", false],
  ["root:0", "root", false],
  ["1000", "1000:1000", false],
  ["1000:", "1000", false],
  [":0", "1000", false],
  // The image decides which number a name has, so a name is not a listed number.
  ["1000", "builder", false],
  ["builder", "1000", false],
  ["Root", "0", false],
  ["0x0", "0", false],
  ["", "1000", false],
])("user %j is among %j: %j", (asked, listed, allowed) => {
  expect(isAllowedUser(asked, ["other", listed])).toBe(allowed);
});
