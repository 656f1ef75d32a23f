import { expect, test } from "vitest";
import { SystemFailure } from "../../src/errors.ts";
import { type ClonePathRequest, clonePath } from "../../src/job/plan/clone-path.ts";

const of = (wanted: string | undefined, more: Partial<ClonePathRequest> = {}) =>
  clonePath({ wanted, buildsDir: "/builds", enabled: true, dialect: "gitlab", ...more });

test.each([
  [undefined, null],
  ["", null],
  ["/builds/go/src/x", "/builds/go/src/x"],
  ["/builds//go/../go/src/x/", "/builds/go/src/x"],
  ["/builds/..a", "/builds/..a"],
])("GIT_CLONE_PATH %j is %j", (wanted, path) => {
  expect(of(wanted)).toBe(path);
});

test.each([
  "/builds/../outside",
  "/go/src/x",
  "/builds",
  "/builds/",
  "/builds/x/..",
  "go/src/x",
  "../builds/x",
  "/buildsx/y",
  "/builds/a\nb",
])("GIT_CLONE_PATH %j is refused with both paths", (wanted) => {
  const refused = expect(() => of(wanted));
  refused.toThrow(SystemFailure);
  refused.toThrow(
    `GIT_CLONE_PATH is ${JSON.stringify(wanted)}, which is no directory inside of the builds directory "/builds"`,
  );
});

test("where jobs may not choose, one of GitLab fails and says what to switch on, and others are left where they are", () => {
  expect(() => of("/builds/x", { enabled: false })).toThrow("set enabled = true in [runners.custom_build_dir]");
  expect(of("/builds/x", { enabled: false, dialect: "alloy" })).toBeNull();
  expect(of("/builds/x", { enabled: undefined })).toBeNull();
});

test("on Windows names have no case, and either slash", () => {
  const buildsDir = "C:\\Runner\\builds";
  expect(of("c:/runner/BUILDS/x", { buildsDir })).toBe("c:\\runner\\BUILDS\\x");
  expect(() => of("C:\\Runner\\other", { buildsDir })).toThrow("no directory inside");
});
