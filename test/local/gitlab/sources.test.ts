import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { blobsIn } from "../../../src/local/gitlab/around/blobs.ts";
import { localSources } from "../../../src/local/gitlab/around/sources.ts";
import { createGit } from "../../../src/local/sources/git.ts";

let home: string;
let dir: string;
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "alloy-sources-"));
  dir = join(home, "project");
  await mkdir(join(dir, ".git"), { recursive: true });
  await writeFile(join(home, "secret.yml"), "secret: 1\n");
  await writeFile(join(dir, ".git", "config"), "token: 1\n");
  await writeFile(join(dir, "ci.yml"), "own: 1\n");
  await symlink("ci.yml", join(dir, "near.yml"));
  await symlink("../secret.yml", join(dir, "far.yml"));
  await symlink("..", join(dir, "up"));
  await symlink(".git/config", join(dir, "git.yml"));
});
afterEach(async () => await rm(home, { recursive: true }));

const OUTSIDE = ["../secret.yml", "far.yml", "up/secret.yml", "git.yml", ".git/config", "none.yml"];

test("files of a project and of a checkout are read in them only, wherever links lead", async () => {
  const sources = localSources({
    dir,
    files: [],
    committed: false,
    git: createGit(dir, process.env, new AbortController().signal),
    project: "group/project",
    host: "git.example.com",
    projects: {
      tree: async () => ({ problem: "is not fetched" }),
      tags: async () => ({ problem: "is not fetched" }),
    },
    checkouts: new Map([["group/other", dir]]),
    remote: async () => ({ problem: "is not fetched" }),
  });
  const other = await sources.project("group/other", undefined);
  for (const tree of [sources.own, ...("found" in other ? [other.found] : [])]) {
    for (const path of ["ci.yml", "near.yml"]) expect(await tree.read(path), path).toBe("own: 1\n");
    for (const path of OUTSIDE) expect(await tree.read(path), path).toBeUndefined();
  }
  expect("found" in other).toBe(true);
});

test("keys of caches tell nothing of files elsewhere", () => {
  const blobOf = blobsIn(dir);
  expect(blobOf("near.yml")).toBe(blobOf("ci.yml"));
  expect(blobOf("ci.yml")).toMatch(/^[0-9a-f]{40}$/);
  for (const path of OUTSIDE) expect(blobOf(path), path).toBeUndefined();
});
