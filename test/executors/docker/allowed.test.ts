import { expect, test } from "vitest";
import { isAllowed } from "../../../executors/images/allowed.ts";
import { globExpression } from "../../../executors/images/name-glob.ts";
import { canonicalName, parseReference } from "../../../executors/images/reference.ts";

const DIGEST = `sha256:${"a".repeat(64)}`;

test.each([
  ["ruby", "docker.io/library/ruby:latest"],
  ["ruby:2.1", "docker.io/library/ruby:2.1"],
  ["library/ruby", "docker.io/library/ruby:latest"],
  ["index.docker.io/team/app", "docker.io/team/app:latest"],
  ["localhost/app", "localhost/app:latest"],
  ["Registry.example.com:5000/a/b/c:1", "registry.example.com:5000/a/b/c:1"],
  [`ruby@${DIGEST}`, `docker.io/library/ruby@${DIGEST}`],
  [`ruby:2.1@${DIGEST}`, `docker.io/library/ruby:2.1@${DIGEST}`],
  ["3f2a1b", "docker.io/library/3f2a1b:latest"],
  ["[::1]:5000/app", "[::1]:5000/app:latest"],
])("%s is %s", (name, canonical) => {
  const reference = parseReference(name);
  expect(reference && canonicalName(reference)).toBe(canonical);
});

test.each([
  "",
  "Ruby",
  "ruby:",
  "ruby:a b",
  "ruby@sha256:short",
  "a//b",
  "/ruby",
  "ruby/",
  "ruby:2.1:3",
  "../etc",
  "a".repeat(300),
  "ruby?x=1",
  "ruby\nx",
  "a..b",
  "-ruby",
  "f".repeat(64),
  "registry_x.y/ruby:1:2",
  "$IMAGE",
])("%j is no name of an image", (name) => {
  expect(parseReference(name)).toBeNull();
});

const my = "my.registry.tld";
test.each<[pattern: string, allows: readonly string[], denies: readonly string[]]>([
  [
    "*",
    ["ruby", "ruby:2.1", "ruby:latest", "docker.io/library/ruby"],
    ["team/ruby", `${my}/ruby`, `${my}/library/ruby`],
  ],
  [
    "ruby:*",
    ["ruby", "ruby:2.1", "library/ruby:3", "docker.io/library/ruby", `ruby@${DIGEST}`, `ruby:9@${DIGEST}`],
    ["rubyx", "team/ruby:1", `${my}/ruby:1`, "ruby/x:1", `${my}/library/ruby:1`],
  ],
  ["ruby:2.*", ["ruby:2.1", "docker.io/ruby:2.1"], ["ruby", "ruby:3", `ruby@${DIGEST}`, `ruby:2.1@${DIGEST}`]],
  ["ruby", ["ruby", "ruby:latest", "index.docker.io/library/ruby:latest"], ["ruby:2.1", `ruby@${DIGEST}`]],
  [
    "team/*",
    ["team/app", "team/app:1", "docker.io/team/app", `team/app@${DIGEST}`],
    ["team/sub/app", "other/app", `${my}/team/app`],
  ],
  ["*/*", ["library/ruby", "library/ruby:2.1", "team/app"], [`${my}/team/app`]],
  ["*/*:*", ["library/ruby:2.1", "team/app:1"], [`${my}/team/app:1`]],
  [
    `${my}/*/*`,
    [`${my}/library/ruby`, `${my}/library/ruby:2.1`],
    [`${my}/group/subgroup/ruby`, "ruby", `${my}/ruby`, `evil.tld/${"x"}/ruby`],
  ],
  [`${my}/*/*:*`, [`${my}/library/ruby:2.1`], [`${my}/group/subgroup/ruby:1`]],
  ["**/*", ["ruby", "ruby:2.1", "team/app", `${my}/a/b/c/ruby:2`, `ruby@${DIGEST}`], []],
  [
    `${my}/**/*`,
    [`${my}/library/ruby`, `${my}/group/subgroup/ruby`, `${my}/group/ruby:1`],
    ["ruby", "team/app", `x${my}/a/b`],
  ],
  [`${my}:5000/team/*`, [`${my}:5000/team/app:1`], [`${my}/team/app:1`, `${my}:5001/team/app`]],
  ["{ruby,node}:[0-9]*", ["ruby:3", "docker.io/library/node:24"], ["ruby:latest", "python:3"]],
])("%s allows and denies what Docker would take for it", (pattern, allows, denies) => {
  const rules = { patterns: [pattern], always: [] };
  for (const name of allows) expect(isAllowed(name, rules), `${pattern} should allow ${name}`).toBe(true);
  for (const name of denies) expect(isAllowed(name, rules), `${pattern} should deny ${name}`).toBe(false);
});

test("what the operator configured is always allowed, in any spelling and with no other tag", () => {
  const rules = { patterns: ["team/*"], always: ["ruby:3.3"] };
  expect(isAllowed("ruby:3.3", rules)).toBe(true);
  expect(isAllowed("docker.io/library/ruby:3.3", rules)).toBe(true);
  expect(isAllowed("ruby:3.4", rules)).toBe(false);
  expect(isAllowed(`ruby:3.3@${DIGEST}`, rules)).toBe(false);
});

test("an exclamation mark forbids, wherever it stands", () => {
  const rules = { patterns: ["**", "!*/kali*", "!python"], always: [] };
  expect(isAllowed("ruby", rules)).toBe(true);
  for (const name of [
    "team/kali-linux",
    "team/kali-linux:1",
    `team/kali@${DIGEST}`,
    "python",
    "python:3",
    `python@${DIGEST}`,
  ]) {
    expect(isAllowed(name, rules), name).toBe(false);
  }
  expect(isAllowed("ruby", { patterns: ["!python"], always: [] })).toBe(true);
  expect(isAllowed("docker.io/library/python:3", { patterns: ["!python"], always: [] })).toBe(false);
});

test("an id is allowed only where everything is", () => {
  expect(isAllowed(DIGEST, { patterns: [], always: [] })).toBe(true);
  expect(isAllowed(DIGEST, { patterns: ["**"], always: [] })).toBe(true);
  expect(isAllowed(DIGEST, { patterns: ["*", "**/*:*"], always: [] })).toBe(false);
  expect(isAllowed(DIGEST, { patterns: ["!ruby"], always: [] })).toBe(false);
});

test("a glob that is half written stands for itself", () => {
  expect(globExpression("a[z-a]").test("a[z-a]")).toBe(true);
  expect(globExpression("a{b").test("a{b")).toBe(true);
  expect(globExpression("a[").test("a[")).toBe(true);
  expect(globExpression("a.c").test("abc")).toBe(false);
});
