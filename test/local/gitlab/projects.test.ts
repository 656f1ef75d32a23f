import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createProjects, type Projects } from "../../../src/local/gitlab/around/projects.ts";
import { localSources } from "../../../src/local/gitlab/around/sources.ts";
import { isVague, newestTag } from "../../../src/local/gitlab/around/versions.ts";
import { createGit } from "../../../src/local/sources/git.ts";

/** Projects of a server, which here are repositories in a directory. */

let home: string;
let other: string;
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "alloy-projects-"));
  other = join(home, "server/group/other.git");
  await mkdir(join(other, "templates/build"), { recursive: true });
  await mkdir(join(home, "work"));
  git("init", "--quiet", "--initial-branch=main", ".");
  await writeFile(join(other, "ci.yml"), "first: 1\n");
  await writeFile(join(other, "templates/build/template.yml"), "built: 1\n");
  commit("first");
  git("tag", "1.2.0");
  await writeFile(join(other, "ci.yml"), "second: 1\n");
  commit("second");
  git("tag", "-a", "1.10.0", "-m", "annotated");
  git("tag", "2.0.0-rc1");
});
afterEach(async () => await rm(home, { recursive: true }));

function git(...args: string[]): string {
  const who = ["-c", "user.name=a", "-c", "user.email=a@example.com"];
  return execFileSync("git", ["-C", other, ...who, ...args], { encoding: "utf8" }).trim();
}

function commit(message: string): void {
  git("add", ".");
  git("commit", "--quiet", "-m", message);
}

interface More {
  readonly offline?: boolean;
  readonly fresh?: boolean;
  readonly addressOf?: (project: string) => string;
  readonly timeoutMs?: number;
}

function projects({ offline = false, fresh = false, addressOf, timeoutMs = 20_000 }: More = {}): Projects {
  return createProjects({
    git: (signal) => createGit(join(home, "work"), { ...process.env, HOME: home }, signal),
    addressOf: addressOf ?? ((project) => join(home, "server", `${project}.git`)),
    host: "git.example.com",
    cacheDir: join(home, "cache"),
    offline,
    fresh,
    timeoutMs,
  });
}

async function textOf(from: Projects, ref: string | undefined, path: string = "ci.yml"): Promise<string | undefined> {
  const tree = await from.tree("group/other", ref);
  return "found" in tree ? await tree.found.read(path) : tree.problem;
}

test("branches, tags and commits, fetched once, and as they were the last time without a network", async () => {
  const online = projects();
  expect(await textOf(online, undefined)).toBe("second: 1");
  expect(await textOf(online, "1.2.0")).toBe("first: 1");
  expect(await textOf(online, "1.10.0")).toBe("second: 1");
  expect(await textOf(online, git("rev-parse", "1.2.0"))).toBe("first: 1");
  expect(await textOf(online, "nope")).toBe('has no branch, tag or commit "nope"');
  const tree = await online.tree("group/other", "main");
  expect("found" in tree && (await tree.found.paths())).toEqual(["ci.yml", "templates/build/template.yml"]);

  await rm(join(home, "server"), { recursive: true });
  expect(await textOf(projects({ offline: true }), "main")).toBe("second: 1");
  expect(await textOf(projects({ offline: true }), "1.2.0")).toBe("first: 1");
  expect(await textOf(projects(), "main")).toMatch(/^is not there, or git may not read it: fatal/);
});

test("what moves is asked for in each run; --fetch-includes fetches what is here, too", async () => {
  expect(await textOf(projects(), undefined)).toBe("second: 1");
  await writeFile(join(other, "ci.yml"), "third: 1\n");
  commit("third");
  expect(await textOf(projects({ offline: true }), undefined)).toBe("second: 1");
  expect(await textOf(projects(), undefined)).toBe("third: 1");
  const sha = git("rev-parse", "1.2.0^{commit}");
  expect(await textOf(projects(), sha)).toBe("first: 1");
  await rm(other, { recursive: true });
  expect(await textOf(projects(), sha)).toBe("first: 1");
  expect(await textOf(projects({ fresh: true }), sha)).toMatch(/^is not there/);
});

test("T41: what was never fetched is not there offline, and paths are no options or other servers", async () => {
  expect(await textOf(projects({ offline: true }), "main")).toMatch(/was not fetched before, and --offline/);
  for (const path of ["--upload-pack=x/y", "group/../../x", "ext::sh/x", "group"]) {
    const found = await projects().tree(path, undefined);
    expect("problem" in found && found.problem, path).toMatch(/is no path of a project/);
  }
});

test("a damaged list of refs is named, and fetched anew without --offline", async () => {
  expect(await projects().tree("group/other", "main")).toMatchObject({ found: {} });
  const [kept = ""] = await readdir(join(home, "cache"));
  for (const text of ["{", '{"HEAD": 1}']) {
    await writeFile(join(home, "cache", kept, "refs.json"), text);
    expect(await projects({ offline: true }).tree("group/other", "main")).toEqual({
      problem: expect.stringMatching(/refs\.json, which is damaged: run once without --offline$/),
    });
  }
  expect(await projects().tree("group/other", "main")).toMatchObject({ found: {} });
  expect(await projects({ offline: true }).tree("group/other", "main")).toMatchObject({ found: {} });
});

test("a server that never answers is a sentence, in the time that includes have", async () => {
  const silent: Server = createServer(() => undefined);
  await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
  const address = silent.address();
  const port = typeof address === "object" ? address?.port : 0;
  const addressOf = (): string => `git://127.0.0.1:${port}/group/other.git`;
  expect(await textOf(projects({ addressOf, timeoutMs: 700 }), "main")).toBe(
    "cannot be fetched: there was no answer within 0.7 s",
  );
  silent.close();
});

test("components by version, latest and part of a version, of this server only", async () => {
  const at = projects();
  const sources = localSources({
    dir: join(home, "work"),
    files: [],
    committed: false,
    git: createGit(join(home, "work"), process.env, new AbortController().signal),
    project: "group/project",
    host: "git.example.com",
    checkouts: new Map(),
    remote: async () => ({ problem: "is not fetched" }),
    projects: at,
  });
  const component = async (version: string, host: string = "git.example.com") => {
    const found = await sources.component(`${host}/group/other/build@${version}`);
    if ("problem" in found) return found.problem;
    return [found.found.path, found.found.values.get("version"), found.found.values.get("sha")];
  };
  const [first, second] = [git("rev-parse", "1.2.0^{commit}"), git("rev-parse", "main")];
  expect(await component("1.2.0")).toEqual(["templates/build/template.yml", "1.2.0", first]);
  expect(await component("~latest")).toEqual(["templates/build/template.yml", "1.10.0", second]);
  expect(await component("1.2")).toEqual(["templates/build/template.yml", "1.2.0", first]);
  expect(await component("3")).toBe("has no release that is meant by 3");
  expect(await component("1.2.0", "elsewhere.example.com")).toBe(
    "is of another server than the project's, which is git.example.com",
  );
});

test("versions", () => {
  const tags = ["v1.0.0", "1.2.3", "1.2.10", "2.0.0-rc.1", "nightly"];
  expect(["~latest", "1", "1.2", "1.0", "2"].map((version) => newestTag(version, tags))).toEqual([
    "1.2.10",
    "1.2.10",
    "1.2.10",
    "v1.0.0",
    undefined,
  ]);
  expect(["~latest", "1", "1.2", "1.2.3", "main"].map(isVague)).toEqual([true, true, true, false, false]);
});
