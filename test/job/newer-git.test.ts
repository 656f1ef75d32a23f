import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, describe, expect, onTestFinished, test, vi } from "vitest";
import type { Job } from "../../src/job/job.ts";
import { builtIfPossible } from "../support/built.ts";
import { createRepository, type GitServer, serveGit, type TestRepository } from "./git-server.ts";
import { createStand, type Finished, jobWith, step, variable } from "./stand.ts";

/** What only a newer git than that of Debian's releases does. */

const programs = await builtIfPossible(join(import.meta.dirname, "../support/newer-git.sh"));
const path = `${programs}:${process.env.PATH}`;
const stand = createStand({ shell: "sh" });
afterAll(() => stand.close());
const basic = `Basic ${Buffer.from("job:s3cr3t").toString("base64")}`;

interface Served {
  readonly repository: TestRepository;
  readonly server: GitServer;
  readonly address: string;
}

let count = 0;
async function served(): Promise<Served> {
  vi.stubEnv("PATH", path);
  const root = join(stand.dir, `served-${count++}`);
  const repository = createRepository(join(root, "widget"));
  const server = await serveGit(root, { credentials: "job:s3cr3t" });
  onTestFinished(() => server.close());
  return { repository, server, address: `${server.origin.replace("//", "//job:s3cr3t@")}/widget` };
}

/** `variables` as `KEY=VALUE`. */
async function checkOut(
  { repository, address }: Served,
  variables: readonly string[],
  script: readonly string[],
  git: Partial<Job["git"]> = {},
): Promise<Finished> {
  const pairs = ["GIT_STRATEGY=clone", ...variables].map((pair) => {
    const at = pair.indexOf("=");
    return variable(pair.slice(0, at), pair.slice(at + 1));
  });
  const sha = repository.git("rev-parse", "HEAD");
  return await stand.run(
    jobWith({
      dialect: "gitlab",
      variables: pairs,
      steps: [step("script", script)],
      git: { ...jobWith().git, repoUrl: address, ref: "refs/heads/main", sha, ...git },
    }),
    { runner: { environment: [{ key: "PATH", value: path }] } },
  );
}

describe.skipIf(programs === null)(`git of today${programs === null ? ": gcc, make and Debian's source" : ""}`, () => {
  test("clones a ref that is no branch, by --revision, and fetches nothing more", async () => {
    const source = await served();
    const { repository, server } = source;
    repository.git("config", "uploadpack.allowFilter", "true");
    const main = repository.git("rev-parse", "HEAD");
    const sha = repository.commit({ "b.txt": "two\n" });
    repository.git("update-ref", "refs/merge-requests/7/head", sha);
    repository.git("reset", "--hard", "--quiet", main);
    const { outcome, trace } = await checkOut(
      source,
      ["FF_USE_GIT_NATIVE_CLONE=true", "GIT_DEPTH=1", "GIT_CLONE_EXTRA_FLAGS=--filter=tree:0"],
      [
        "echo HEAD=$(git rev-parse HEAD) FILES=$(echo *) FILTER=$(git config remote.origin.partialclonefilter)",
        "git for-each-ref",
      ],
      { ref: "refs/merge-requests/7/head", sha },
    );
    expect(trace).toContain(`HEAD=${sha} FILES=b.txt file.txt FILTER=tree:0\n`);
    expect(trace).not.toContain("refs/remotes/origin/main");
    expect(outcome).toEqual({ result: "success" });
    expect(server.requests.some(({ authorization }) => authorization === basic)).toBe(true);
  });

  test("brings its credentials with the first request, where it is told to", async () => {
    const source = await served();
    const given = async (flag: string): Promise<(string | undefined)[]> => {
      const before = source.server.requests.length;
      const variables = [`FF_USE_GIT_PROACTIVE_AUTH=${flag}`, "GIT_STRATEGY=clone"];
      expect((await checkOut(source, variables, ["true"])).outcome).toEqual({ result: "success" });
      return source.server.requests.slice(before).map(({ authorization }) => authorization);
    };
    expect(new Set(await given("true"))).toEqual(new Set([basic]));
    expect(new Set(await given("false"))).toEqual(new Set([undefined, basic]));
  });

  test.each([
    // git asks for bundles when it clones, and never when it fetches.
    ["FF_USE_GIT_NATIVE_CLONE=true", "FF_USE_GIT_BUNDLE_URIS=true", 1],
    ["FF_USE_GIT_NATIVE_CLONE=true", "FF_USE_GIT_BUNDLE_URIS=false", 0],
    ["FF_USE_GIT_NATIVE_CLONE=false", "FF_USE_GIT_BUNDLE_URIS=true", 0],
  ])("takes the bundle that the server names, whose host gets no credentials: %s %s", async (clone, bundles, times) => {
    const source = await served();
    const { repository } = source;
    repository.commit({ "b.txt": "two\n" });
    const file = join(stand.dir, `all-${count}.bundle`);
    repository.git("bundle", "create", file, "main");
    const asked: (string | undefined)[] = [];
    const host = createServer((request, response) => {
      asked.push(request.headers.authorization);
      response.end(readFileSync(file));
    });
    await new Promise<void>((resolve) => host.listen(0, "127.0.0.1", resolve));
    onTestFinished(() => void host.close());
    const { port } = host.address() as AddressInfo;
    const settings = {
      "uploadpack.advertiseBundleURIs": "true",
      "bundle.version": "1",
      "bundle.mode": "all",
      "bundle.whole.uri": `http://127.0.0.1:${port}/all.bundle`,
    };
    for (const [key, value] of Object.entries(settings)) repository.git("config", key, value);
    const { outcome, trace } = await checkOut(
      source,
      [clone, bundles, "FF_USE_GIT_PROACTIVE_AUTH=true"],
      ["echo FILES=$(echo *)"],
    );
    expect(trace).toContain("FILES=b.txt file.txt\n");
    expect(outcome).toEqual({ result: "success" });
    expect(asked).toEqual(Array.from({ length: times }, () => undefined));
  });
});
