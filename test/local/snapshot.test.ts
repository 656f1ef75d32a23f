import { execFileSync } from "node:child_process";
import {
  chmod,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rm,
  stat,
  symlink,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createGit } from "../../src/local/sources/git.ts";
import { startGitServer } from "../../src/local/sources/git-server.ts";
import { type Snapshot, takeSnapshot } from "../../src/local/sources/snapshot.ts";
import { makeTemplate } from "../../src/local/sources/template.ts";
import { findWorkingTree } from "../../src/local/sources/working-tree.ts";
import { never } from "../../src/time.ts";

let top: string;
let home: Record<string, string>;
beforeEach(async () => {
  top = await mkdtemp(join(tmpdir(), "alloy-snapshot-"));
  home = {
    PATH: process.env.PATH ?? "",
    HOME: top,
    GIT_CONFIG_NOSYSTEM: "1",
    GIT_AUTHOR_NAME: "a",
    GIT_AUTHOR_EMAIL: "author@example.com",
    GIT_COMMITTER_NAME: "c",
    GIT_COMMITTER_EMAIL: "c@example.com",
  };
});
afterEach(async () => {
  await rm(top, { recursive: true, force: true });
});

function git(dir: string, ...args: string[]): string {
  return execFileSync("git", ["-C", dir, ...args], { env: home, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

/** A repository with one commit of `a` and an executable `run`. */
async function repository(name = "project"): Promise<string> {
  const dir = join(top, name);
  await mkdir(dir);
  git(dir, "init", "--quiet");
  git(dir, "symbolic-ref", "HEAD", "refs/heads/main");
  await writeFile(join(dir, "a"), "one\n");
  await writeFile(join(dir, "run"), "#!/bin/sh\n", { mode: 0o755 });
  git(dir, "add", ".");
  git(dir, "commit", "--quiet", "-m", "First: [x]");
  return dir;
}

let count = 0;
async function snap(
  cwd: string,
  more: { committed?: boolean; ref?: string; env?: Record<string, string> } = {},
): Promise<{ snapshot: Snapshot; checkout: string; notes: readonly string[] }> {
  const env = { ...home, ...more.env };
  const tree = await findWorkingTree(cwd, (dir) => createGit(dir, env, never));
  const into = join(top, `into-${++count}`);
  await mkdir(into);
  const servedAs = `local/${tree.name}.git`;
  const snapshot = await takeSnapshot(
    { tree, into, committed: more.committed ?? false, ref: more.ref, servedAs, env },
    never,
  );
  const server = await startGitServer({
    listenHost: "127.0.0.1",
    publicHost: "127.0.0.1",
    repositories: new Map([[servedAs, into], ...snapshot.submodules.map(({ path, dir }) => [path, dir] as const)]),
    env,
  });
  const checkout = join(top, `checkout-${count}`);
  try {
    await mkdir(checkout);
    git(checkout, "init", "--quiet");
    const run = createGit(checkout, env, never);
    await run(["remote", "add", "origin", server.urlOf(servedAs)]);
    const shallow = snapshot.shallow ? ["--update-shallow"] : [];
    await run([
      "fetch",
      "--quiet",
      ...shallow,
      "origin",
      "+refs/heads/*:refs/remotes/origin/*",
      "+refs/tags/*:refs/tags/*",
    ]);
    await run(["checkout", "--quiet", "--detach", snapshot.sha]);
    if (snapshot.submodules.length > 0) await run(["submodule", "update", "--init", "--quiet"]);
  } finally {
    await server.close();
  }
  return { snapshot, checkout, notes: [...tree.notes, ...snapshot.notes] };
}

/**
 * Every file below `.git` with its content, and its time unless it is an object: git renews the time of an object that
 * it would write again.
 */
async function fingerprint(dir: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const entry of await readdir(dir, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    const time = path.includes("/objects/") && entry.isFile() ? "" : `${(await lstat(path)).mtimeMs} `;
    found[path] = entry.isFile() ? time + (await readFile(path)).toString("base64") : time;
  }
  return found;
}

describe("a repository", () => {
  test("changed, new, removed, staged, executable and linked files arrive, ignored ones do not, and nothing of it is written", async () => {
    const dir = await repository();
    await writeFile(join(dir, "gone"), "x");
    await writeFile(join(dir, "staged"), "x");
    git(dir, "add", ".");
    git(dir, "commit", "--quiet", "-m", "Second");
    await rm(join(dir, "gone"));
    await writeFile(join(dir, "a"), "two\n");
    await writeFile(join(dir, "staged"), "in the index");
    git(dir, "add", "staged");
    await writeFile(join(dir, "staged"), "in the tree");
    await mkdir(join(dir, "new dir"));
    await writeFile(join(dir, "new dir/ü\n.txt"), "new");
    await symlink("../a", join(dir, "new dir/link"));
    await chmod(join(dir, "a"), 0o755);
    await writeFile(join(dir, ".gitignore"), "ignored\n");
    await writeFile(join(dir, "ignored"), "x");
    // These settings would run a program or write a file.
    await writeFile(join(dir, ".gitattributes"), "*.txt filter=evil\n");
    git(dir, "config", "core.hooksPath", join(top, "hooks"));
    git(dir, "config", "core.splitIndex", "true");
    await mkdir(join(top, "hooks"));
    await writeFile(join(top, "hooks/post-index-change"), `#!/bin/sh\ntouch ${top}/hooked\n`, { mode: 0o755 });
    const before = await fingerprint(join(dir, ".git"));
    const status = git(dir, "--no-optional-locks", "status", "--porcelain");

    const { snapshot, checkout, notes } = await snap(dir);

    expect(await fingerprint(join(dir, ".git"))).toEqual(before);
    expect(git(dir, "--no-optional-locks", "status", "--porcelain")).toBe(status);
    expect((await readdir(top)).includes("hooked")).toBe(false);
    expect(notes).toEqual([]);
    expect(await readFile(join(checkout, "a"), "utf8")).toBe("two\n");
    expect((await stat(join(checkout, "a"))).mode & 0o100).toBe(0o100);
    expect(await readFile(join(checkout, "staged"), "utf8")).toBe("in the tree");
    expect(await readFile(join(checkout, "new dir/ü\n.txt"), "utf8")).toBe("new");
    expect(await readlink(join(checkout, "new dir/link"))).toBe("../a");
    expect((await readdir(checkout)).sort()).toEqual([
      ".git",
      ".gitattributes",
      ".gitignore",
      "a",
      "new dir",
      "run",
      "staged",
    ]);
    const head = git(dir, "rev-parse", "HEAD").trim();
    expect(git(checkout, "rev-parse", "HEAD^").trim()).toBe(head);
    expect(snapshot).toMatchObject({
      ref: "refs/heads/main",
      beforeSha: head,
      message: "Second",
      author: "author@example.com",
    });
  });

  test("without changes it is HEAD itself; --committed leaves changes out", async () => {
    const dir = await repository();
    const head = git(dir, "rev-parse", "HEAD").trim();
    expect((await snap(dir)).snapshot.sha).toBe(head);
    await writeFile(join(dir, "a"), "changed");
    const { snapshot, checkout } = await snap(dir, { committed: true });
    expect(snapshot.sha).toBe(head);
    expect(await readFile(join(checkout, "a"), "utf8")).toBe("one\n");
  });

  test("a file that is changed in the same moment as the index, with the same size, is not missed", async () => {
    const dir = await repository();
    for (let round = 0; round < 5; round++) {
      await writeFile(join(dir, "a"), `st${round}\n`);
      git(dir, "add", "a");
      await writeFile(join(dir, "a"), `nd${round}\n`);
      const { checkout } = await snap(dir);
      expect(await readFile(join(checkout, "a"), "utf8")).toBe(`nd${round}\n`);
    }
  });

  test("without commits, from below, in a linked worktree, detached, shallow, on other refs", async () => {
    const empty = join(top, "empty");
    await mkdir(empty);
    git(empty, "init", "--quiet");
    git(empty, "symbolic-ref", "HEAD", "refs/heads/trunk");
    await writeFile(join(empty, "b"), "b");
    expect((await snap(empty)).snapshot).toMatchObject({ ref: "refs/heads/trunk", beforeSha: "0".repeat(40) });
    await expect(snap(empty, { committed: true })).rejects.toThrow("has no commit yet");

    const dir = await repository();
    await mkdir(join(dir, "deep/er"), { recursive: true });
    expect((await snap(join(dir, "deep/er"))).snapshot.ref).toBe("refs/heads/main");

    git(dir, "worktree", "add", "--quiet", "-b", "side/branch", join(top, "linked"));
    await writeFile(join(top, "linked/a"), "of the worktree");
    const linked = await snap(join(top, "linked"));
    expect(linked.snapshot.ref).toBe("refs/heads/side/branch");
    expect(await readFile(join(linked.checkout, "a"), "utf8")).toBe("of the worktree");

    git(dir, "tag", "v1");
    git(dir, "checkout", "--quiet", "--detach");
    const tagged = await snap(dir);
    expect(tagged.snapshot.ref).toBe("refs/tags/v1");
    expect(tagged.notes.join()).toContain('detached at the tag "v1"');
    git(dir, "tag", "-d", "v1");
    expect((await snap(dir)).notes.join()).toContain("HEAD is detached");
    expect((await snap(dir, { ref: "release/1" })).snapshot.ref).toBe("refs/heads/release/1");
    for (const ref of ["a..b", "refs/notes/x", "", "a b", "x/../../y", "refs/heads/"])
      if (ref !== "") await expect(snap(dir, { ref }), ref).rejects.toThrow("--ref is a branch");

    git(dir, "checkout", "--quiet", "main");
    await writeFile(join(dir, "a"), "second");
    git(dir, "commit", "--quiet", "-am", "Second");
    git(top, "clone", "--quiet", "--depth", "1", `file://${dir}`, "shallow");
    await writeFile(join(top, "shallow/n"), "new");
    const shallow = await snap(join(top, "shallow"));
    expect(git(shallow.checkout, "rev-list", "--count", "HEAD").trim()).toBe("2");
  });

  test("git's own variables, as hooks have them, do not lead astray", async () => {
    const dir = await repository();
    const other = await repository("other");
    await writeFile(join(dir, "n"), "new");
    const { checkout } = await snap(dir, {
      env: { GIT_DIR: join(other, ".git"), GIT_INDEX_FILE: join(other, "nothing") },
    });
    expect(await readdir(checkout)).toContain("n");
  });

  test("branches known of the remote can be compared with", async () => {
    const dir = await repository();
    git(top, "clone", "--quiet", dir, "clone");
    git(join(top, "clone"), "checkout", "--quiet", "-b", "feature");
    git(join(top, "clone"), "branch", "--quiet", "-D", "main");
    const { checkout } = await snap(join(top, "clone"));
    expect(git(checkout, "branch", "-r", "--format=%(refname:short)").trim().split("\n")).toEqual([
      "origin/feature",
      "origin/main",
    ]);
  });

  test("submodules with relative addresses come from here", async () => {
    const lib = await repository("lib");
    const dir = await repository("app");
    git(dir, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", lib, "vendor/lib");
    git(dir, "config", "-f", ".gitmodules", "submodule.vendor/lib.url", "../lib.git");
    git(dir, "add", ".");
    git(dir, "commit", "--quiet", "-m", "With a library");
    await rm(lib, { recursive: true });
    const { checkout, snapshot, notes } = await snap(dir);
    expect(snapshot.submodules).toEqual([{ path: "local/lib.git", dir: join(dir, ".git/modules/vendor/lib") }]);
    expect(await readFile(join(checkout, "vendor/lib/a"), "utf8")).toBe("one\n");
    expect(notes.join()).toContain("Submodules are taken at the commit");
  });

  test("large untracked files are named, git-lfs pointers stay, what git cannot take is said", async () => {
    const dir = await repository();
    await writeFile(join(dir, "big.bin"), Buffer.alloc(51 * 1024 * 1024));
    await writeFile(join(dir, ".gitattributes"), "*.psd filter=lfs diff=lfs merge=lfs -text\n");
    await writeFile(join(dir, "x.psd"), "version https://git-lfs.github.com/spec/v1\n");
    git(dir, "config", "filter.lfs.clean", `touch ${top}/lfs-was-run`);
    git(dir, "config", "filter.lfs.required", "true");
    await mkdir(join(dir, "nested"));
    git(join(dir, "nested"), "init", "--quiet");
    const { snapshot, checkout, notes } = await snap(dir);
    expect(snapshot.lfs).toBe(true);
    expect(notes.join("\n")).toMatch(/big\.bin \(51 MiB\)/);
    expect(notes.join("\n")).toMatch(/git-lfs keeps/);
    expect(notes.join("\n")).toMatch(/nested/);
    expect(await readFile(join(checkout, "x.psd"), "utf8")).toMatch(/^version https/);
    expect((await readdir(top)).includes("lfs-was-run")).toBe(false);
  });
});

test("a template for jobs on this machine has the refs and objects that a fetch would bring", async () => {
  const dir = await repository();
  git(dir, "branch", "other");
  git(dir, "tag", "-a", "v1", "-m", "one");
  await writeFile(join(dir, "a"), "changed\n");
  git(top, "clone", "--quiet", "--depth", "1", `file://${dir}`, "shallow");
  for (const project of [dir, join(top, "shallow")]) {
    const { snapshot, checkout } = await snap(project);
    const template = join(top, `template-${++count}`);
    expect(await makeTemplate(snapshot, template, home, never)).toBe(true);
    const copy = join(top, `copy-${count}`);
    git(top, "init", "--quiet", `--template=${template}`, copy);
    git(copy, "checkout", "--quiet", "--detach", snapshot.sha);
    for (const asked of [["for-each-ref"], ["rev-list", "--objects", "--all", "HEAD"], ["log", "--format=%H"]])
      expect(
        git(copy, ...asked)
          .split("\n")
          .sort(),
      ).toEqual(
        git(checkout, ...asked)
          .split("\n")
          .sort(),
      );
    git(copy, "fsck", "--strict");
  }
});

test("a directory without git is taken as it is, and a project below a repository is one of its own", async () => {
  const plain = join(top, "my project");
  await mkdir(plain);
  await writeFile(join(plain, "a"), "a");
  await writeFile(join(plain, ".gitignore"), "out\n");
  await writeFile(join(plain, "out"), "x");
  const { checkout, snapshot, notes } = await snap(plain);
  expect((await readdir(checkout)).sort()).toEqual([".git", ".gitignore", "a"]);
  expect(snapshot.ref).toBe("refs/heads/main");
  expect(notes.join()).toContain("is no git repository");
  expect(await readdir(plain)).not.toContain(".git");
  await expect(snap(plain, { committed: true })).rejects.toThrow("not the top of a git repository");

  const dir = await repository();
  await mkdir(join(dir, "example"));
  await writeFile(join(dir, "example/.alloy-ci.yml"), "a: {script: [x]}");
  const below = await snap(join(dir, "example"));
  expect((await readdir(below.checkout)).sort()).toEqual([".alloy-ci.yml", ".git"]);
  expect(below.notes.join()).toContain("has a CI file of its own");
});

test("what a checkout brings as a bare repository names no program that runs here", async () => {
  const dir = await repository();
  const trap = join(dir, "trap");
  const ran = join(top, "ran");
  const work = join(trap, "work");
  for (const made of ["objects", "refs", "work"]) await mkdir(join(trap, made), { recursive: true });
  await writeFile(join(trap, "HEAD"), "ref: refs/heads/main\n");
  const program = `"touch ${ran}; cat"`;
  await writeFile(
    join(trap, "config"),
    `[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tworktree = work\n[filter "x"]\n\tclean = ${program}\n`,
  );
  await writeFile(join(work, ".gitattributes"), "* filter=x\n");
  await writeFile(join(work, "f"), "f\n");
  for (const cwd of [trap, work]) {
    const { checkout, notes } = await snap(cwd);
    expect(await readdir(checkout)).toContain(cwd === trap ? "HEAD" : "f");
    expect(notes.join()).toContain("is a repository without a working tree");
  }
  await expect(stat(ran)).rejects.toThrow("ENOENT");
});

test("the server gives nothing away: no password, other paths, pushes, other methods", async () => {
  const dir = await repository();
  const server = await startGitServer({
    listenHost: "127.0.0.1",
    publicHost: "127.0.0.1",
    repositories: new Map([["local/p.git", join(dir, ".git")]]),
    env: home,
  });
  try {
    const url = new URL(server.urlOf("local/p.git"));
    const authorization = `Basic ${Buffer.from(`${url.username}:${url.password}`).toString("base64")}`;
    const ask = async (path: string, init: RequestInit = { headers: { authorization } }): Promise<number> =>
      (await fetch(`${url.origin}${path}`, init)).status;
    const refs = "/local/p.git/info/refs?service=git-upload-pack";
    expect(await ask(refs)).toBe(200);
    expect(await ask(refs, {})).toBe(401);
    expect(await ask(refs, { headers: { authorization: "Basic eDp5" } })).toBe(401);
    expect(await ask("/local/q.git/info/refs?service=git-upload-pack")).toBe(404);
    expect(await ask("/local/p.git/../p.git/HEAD")).toBe(404);
    expect(await ask("/local/p.git/info/refs?service=git-receive-pack")).toBe(403);
    expect(await ask("/%ff")).toBe(404);
    expect(await ask(refs, { method: "POST", headers: { authorization } })).toBe(405);
  } finally {
    await server.close();
  }
});
