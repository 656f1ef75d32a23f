import { join } from "node:path";
import { afterAll, expect, test, vi } from "vitest";
import { builtIfPossible } from "../support/built.ts";
import { createRepository, git, type TestRepository } from "./git-server.ts";
import { createStand, jobWith, step, variable } from "./stand.ts";

/** Where the real git-lfs is. */
const programs = await builtIfPossible(join(import.meta.dirname, "../support/git-lfs.sh"));
const path = `${programs}:${process.env.PATH}`;
const stand = createStand({ shell: "sh" });
afterAll(() => stand.close());

/** A repository whose `*.bin` LFS keeps. */
function withLfs(name: string): TestRepository {
  const repository = createRepository(join(stand.dir, name));
  repository.git("lfs", "install", "--local");
  repository.commit({
    ".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n",
    "big.bin": `content of ${name}\n`,
  });
  return repository;
}

const where = programs === null ? ": needs git-lfs, from Debian's packages" : "";
test.skipIf(programs === null)(
  `the real LFS brings the files of a repository and of its submodules${where}`,
  async () => {
    vi.stubEnv("PATH", path);
    const [outer, sub] = [withLfs("outer"), withLfs("sub")];
    git(outer.dir, "-c", "protocol.file.allow=always", "submodule", "add", "-q", sub.url, "sub");
    outer.commit({});
    const run = async (...more: readonly [string, string][]) =>
      await stand.run(
        jobWith({
          dialect: "gitlab",
          variables: [["GIT_SUBMODULE_STRATEGY", "recursive"] as const, ...more].map(([key, value]) =>
            variable(key, value),
          ),
          steps: [
            step("script", ["head -n 1 big.bin sub/big.bin; git status --porcelain; git -C sub status --porcelain"]),
          ],
          git: { ...jobWith().git, repoUrl: outer.url, ref: "main", sha: outer.git("rev-parse", "HEAD") },
        }),
        {
          runner: {
            environment: [
              { key: "PATH", value: path },
              { key: "GIT_ALLOW_PROTOCOL", value: "file" },
            ],
          },
        },
      );
    for (let time = 0; time < 2; time++) {
      const { outcome, trace } = await run();
      expect(trace).toContain("==> big.bin <==\ncontent of outer\n\n==> sub/big.bin <==\ncontent of sub\nUsed ");
      expect(outcome).toEqual({ result: "success" });
    }
    const without = await run(["GIT_LFS_SKIP_SMUDGE", "1"], ["GIT_STRATEGY", "clone"]);
    expect(without.outcome).toEqual({ result: "success" });
    expect(without.trace).toMatch(/==> big.bin <==\nversion https.*\n\n==> sub\/big.bin <==\nversion https/);
  },
);
