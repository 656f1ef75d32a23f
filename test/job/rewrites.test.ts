import { describe, expect, test } from "vitest";
import { repositoryOf } from "../../src/job/sources/access/repository.ts";
import { mirroredOrigins, sshRewrites } from "../../src/job/sources/access/rewrites.ts";
import { jobWith } from "./stand.ts";

interface Case {
  readonly url?: string;
  readonly repoUrl?: string;
  readonly cloneUrl?: string;
  readonly variables?: Readonly<Record<string, string>>;
  readonly dialect?: "alloy" | "gitlab";
}

const HOST = { CI_SERVER_HOST: "g.example.com" };

function rewritesOf({
  url,
  repoUrl,
  cloneUrl = "",
  variables = HOST,
  dialect = "gitlab",
}: Case): Record<string, string> {
  const base = jobWith();
  const job = {
    ...base,
    dialect,
    git: { ...base.git, repoUrl: repoUrl ?? "https://x:y@g.example.com/acme/widget.git" },
  };
  const get = (key: string): string | undefined => variables[key];
  const repository = repositoryOf(job, cloneUrl, get);
  const serverUrl = new URL(url ?? "https://g.example.com/");
  return Object.fromEntries(
    sshRewrites({ job, repository, cloneUrl, serverUrl, get }).map(({ from, to }) => [from, to]),
  );
}

/** What `git@host:` and `ssh://git@host/` become. */
const plain = (host: string, to: string) => ({
  [`git@${host}:`]: to,
  [`ssh://git@${host}/`]: to,
  [`ssh://git@${host}:22/`]: to,
});

describe("GIT_SUBMODULE_FORCE_HTTPS", () => {
  test.each<[string, Case, Record<string, string>]>([
    ["without more words", {}, plain("g.example.com", "https://g.example.com/")],
    [
      "the usual port",
      { variables: { ...HOST, CI_SERVER_SHELL_SSH_PORT: "22" } },
      plain("g.example.com", "https://g.example.com/"),
    ],
    [
      "another port",
      { variables: { ...HOST, CI_SERVER_SHELL_SSH_PORT: "8022" } },
      { "ssh://git@g.example.com:8022/": "https://g.example.com/" },
    ],
    [
      "a host of its own for SSH",
      { variables: { ...HOST, CI_SERVER_SHELL_SSH_HOST: "ssh.g.example.com" } },
      plain("ssh.g.example.com", "https://g.example.com/"),
    ],
    [
      "a path in front",
      { url: "https://g.example.com/gitlab/" },
      plain("g.example.com", "https://g.example.com/gitlab/"),
    ],
    [
      "an HTTP port, which SSH has not",
      { url: "http://g.example.com:8080" },
      plain("g.example.com", "http://g.example.com:8080/"),
    ],
    ["clone_url by SSH", { cloneUrl: "ssh://git@g.example.com/" }, {}],
    ["clone_url without a scheme", { cloneUrl: "mirror" }, plain("g.example.com", "https://g.example.com/")],
    ["clone_url elsewhere", { cloneUrl: "https://mirror/" }, plain("g.example.com", "https://mirror/")],
    ["a name that would be a rule of its own", { variables: { CI_SERVER_HOST: 'x"]\n[core' } }, {}],
    [
      "AlloyCI, whose repositories are elsewhere",
      { dialect: "alloy", repoUrl: "https://x:y@github.com:8443/acme/widget.git", variables: {} },
      plain("github.com", "https://github.com:8443/"),
    ],
  ])("%s", (_, one, rewrites) => {
    expect(rewritesOf(one)).toEqual(rewrites);
  });

  test.each<[string, string, string]>([
    [
      "ssh://g.example.com:8022/",
      "https://x:y@other.example.com/a%20b/widget.git",
      "ssh://git@g.example.com:8022/a%20b/widget.git",
    ],
    ["ssh://deploy@g.example.com/gitlab", "https://x:y@h/acme/it.git", "ssh://deploy@g.example.com/gitlab/acme/it.git"],
    [
      "ssh://deploy@g.example.com/gitlab",
      "https://x:y@h/gitlab/acme/it.git",
      "ssh://deploy@g.example.com/gitlab/acme/it.git",
    ],
    ["ssh://g.example.com", "git@h:acme/it.git", "ssh://git@g.example.com/acme/it.git"],
  ])("clone_url %s for what is at %s, whatever the job says of its project", (cloneUrl, repoUrl, url) => {
    const base = jobWith();
    const job = { ...base, dialect: "gitlab" as const, git: { ...base.git, repoUrl } };
    const get = (key: string): string | undefined => (key === "CI_PROJECT_PATH" ? "other/secret" : undefined);
    expect(repositoryOf(job, cloneUrl, get)).toEqual({ url, origin: null, credentials: null });
    expect(() => repositoryOf(job, "ssh://-oProxyCommand=x@host/", get)).toThrow("begins with a dash");
  });

  test("credentials are for the mirror and for what the server calls itself", () => {
    const base = jobWith();
    const job = {
      ...base,
      dialect: "gitlab" as const,
      git: { ...base.git, repoUrl: "https://x:y@g.example.com/a.git" },
    };
    const get = (key: string): string | undefined => (key === "CI_PROJECT_PATH" ? "a" : undefined);
    const mirror = repositoryOf(job, "https://mirror/", get);
    expect(mirroredOrigins(job, mirror, "https://mirror/")).toEqual(["https://g.example.com"]);
    expect(mirroredOrigins({ ...job, dialect: "alloy" }, mirror, "https://mirror/")).toEqual([]);
    expect(mirroredOrigins(job, repositoryOf(job, "", get), "")).toEqual([]);
  });
});
