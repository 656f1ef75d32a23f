import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type LoginSources, openLogins } from "../../../executors/images/logins.ts";
import { type ImageReference, parseReference } from "../../../executors/images/reference.ts";
import { never } from "../../../src/time.ts";

let dir = "";
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "alloy-logins-"));
});
afterEach(async () => {
  await rm(dir, { recursive: true, force: true });
});

const none: LoginSources = {
  jobConfig: undefined,
  entryConfig: undefined,
  operatorConfig: undefined,
  jobCredentials: [],
  configDir: undefined,
  home: undefined,
  env: {},
  hide: () => undefined,
};
const auth = (user: string): { auth: string } => ({ auth: Buffer.from(`${user}:secret-${user}`).toString("base64") });
const config = (auths: Record<string, unknown>): string => JSON.stringify({ auths });

function image(name: string): ImageReference {
  const reference = parseReference(name);
  if (reference === null) throw new Error(`${name} is no name`);
  return reference;
}

async function users(sources: Partial<LoginSources>, name: string): Promise<(string | undefined)[]> {
  const logins = await openLogins({ ...none, ...sources });
  return (await logins.find(image(name), never)).map(({ login }) => login.username);
}

test("the job's variable comes before the runner's, the account's file and the job's credentials", async () => {
  await writeFile(join(dir, "config.json"), config({ "registry.tld:5005": auth("file") }));
  const sources = {
    jobConfig: config({ "https://registry.tld:5005/v1/": auth("job") }),
    entryConfig: config({ "registry.tld:5005": auth("entry") }),
    operatorConfig: config({ "registry.tld:5005": auth("operator") }),
    jobCredentials: [{ url: "registry.tld:5005", username: "payload", password: "p" }],
    configDir: dir,
  };
  expect(await users(sources, "registry.tld:5005/image/name:v")).toEqual([
    "job",
    "entry",
    "operator",
    "file",
    "payload",
  ]);
  expect(await users({ ...sources, jobConfig: undefined }, "registry.tld:5005/x")).toEqual([
    "entry",
    "operator",
    "file",
    "payload",
  ]);
});

test("a login goes only to the registry it names", async () => {
  const sources = { jobConfig: config({ "registry.tld": auth("a"), "registry.tld:5005": auth("b"), tld: auth("c") }) };
  expect(await users(sources, "registry.tld/x")).toEqual(["a"]);
  expect(await users(sources, "registry.tld:5005/x")).toEqual(["b"]);
  expect(await users(sources, "other.registry.tld/x")).toEqual([]);
  expect(await users(sources, "registry.tld.evil.com/x")).toEqual([]);
  expect(await users(sources, "ruby")).toEqual([]);
});

test("Docker Hub is meant by all its names", async () => {
  for (const key of ["https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io"]) {
    expect(await users({ jobConfig: config({ [key]: auth("hub") }) }, "ruby:2.1"), key).toEqual(["hub"]);
  }
});

test("the longest path wins, and only whole parts of a path count", async () => {
  const sources = {
    jobConfig: config({
      "registry.tld": auth("host"),
      "registry.tld/group": auth("group"),
      "registry.tld/group/app": auth("app"),
    }),
  };
  expect(await users(sources, "registry.tld/group/app:1")).toEqual(["app", "group", "host"]);
  expect(await users(sources, "registry.tld/group/application")).toEqual(["group", "host"]);
  expect(await users(sources, "registry.tld/groupies/app")).toEqual(["host"]);
});

test("what cannot be read is a warning without its contents", async () => {
  const logins = await openLogins({ ...none, jobConfig: "{secret-thing" });
  expect(logins.warnings.join()).toMatch(/DOCKER_AUTH_CONFIG of the job is no docker configuration/);
  expect(logins.warnings.join()).not.toContain("secret-thing");
  await mkdir(join(dir, "config.json"));
  expect((await openLogins({ ...none, configDir: dir })).warnings.join()).toMatch(/config.json cannot be read/);
});

/** A helper that prints `answer` and writes down that it was called. */
async function helper(name: string, answer: string): Promise<string> {
  const program = join(dir, `docker-credential-${name}`);
  await writeFile(program, `#!/bin/sh\nread server\necho "$1 $server" >>${dir}/asked\n${answer}\n`);
  await chmod(program, 0o755);
  return `${dir}:${process.env.PATH}`;
}

test("the operator's credential helpers are asked for the registry, by docker's protocol", async () => {
  const PATH = await helper(
    "own",
    `[ "$server" = registry.tld ] && echo '{"Username":"helped","Secret":"s"}' && exit 0; echo 'credentials not found in native keychain'; exit 1`,
  );
  await writeFile(join(dir, "config.json"), JSON.stringify({ credsStore: "own" }));
  expect(await users({ configDir: dir, env: { PATH } }, "registry.tld/x")).toEqual(["helped"]);
  expect(await users({ configDir: dir, env: { PATH } }, "other.tld/x")).toEqual([]);
  await writeFile(join(dir, "config.json"), JSON.stringify({ credHelpers: { "registry.tld": "own" } }));
  expect(await users({ configDir: dir, env: { PATH } }, "registry.tld/x")).toEqual(["helped"]);
});

test("a token of a helper becomes an identity token", async () => {
  const PATH = await helper("own", `echo '{"Username":"<token>","Secret":"refresh"}'`);
  await writeFile(join(dir, "config.json"), JSON.stringify({ credsStore: "own" }));
  const logins = await openLogins({ ...none, configDir: dir, env: { PATH } });
  expect((await logins.find(image("registry.tld/x"), never))[0]?.login).toEqual({
    identitytoken: "refresh",
    serveraddress: "registry.tld",
  });
});

test("passwords and tokens of every source are told before anybody gets a login", async () => {
  const PATH = await helper("own", `echo '{"Username":"helped","Secret":"from-the-helper"}'`);
  await writeFile(
    join(dir, "config.json"),
    JSON.stringify({ credHelpers: { "registry.tld": "own" }, ...JSON.parse(config({ "other.tld": auth("file") })) }),
  );
  const hidden: string[] = [];
  const logins = await openLogins({
    ...none,
    jobConfig: config({ "registry.tld": auth("job") }),
    operatorConfig: config({ "registry.tld": { identitytoken: "refresh-token" } }),
    jobCredentials: [{ url: "registry.tld", username: "u", password: "of-the-payload" }],
    configDir: dir,
    env: { PATH },
    hide: (secrets) => void hidden.push(...secrets),
  });
  const known = ["secret-job", auth("job").auth, "refresh-token", "secret-file", "of-the-payload"];
  expect(hidden).toEqual(expect.arrayContaining(known));
  await logins.find(image("registry.tld/x"), never);
  expect(hidden).toContain("from-the-helper");
});

test("a helper that fails costs a warning, not the job", async () => {
  const PATH = await helper("own", "echo secret-output; exit 5");
  await writeFile(
    join(dir, "config.json"),
    JSON.stringify({ credsStore: "own", ...JSON.parse(config({ "registry.tld": auth("file") })) }),
  );
  const logins = await openLogins({ ...none, configDir: dir, env: { PATH } });
  expect((await logins.find(image("registry.tld/x"), never)).map(({ login }) => login.username)).toEqual(["file"]);
  expect(logins.warnings.join()).toMatch(/status 5/);
  expect(logins.warnings.join()).not.toContain("secret-output");
});

test("helpers that the operator names in DOCKER_AUTH_CONFIG are asked", async () => {
  const PATH = await helper("own", `echo '{"Username":"x","Secret":"y"}'`);
  const named = JSON.stringify({ credHelpers: { "registry.tld": "own" } });
  for (const sources of [{ entryConfig: named }, { operatorConfig: named }]) {
    const logins = await openLogins({ ...none, ...sources, env: { PATH } });
    expect((await logins.find(image("registry.tld/x"), never)).map(({ login }) => login.username)).toEqual(["x"]);
    expect(logins.warnings).toEqual([]);
  }
});

test("nothing that a job supplies starts a program", async () => {
  const PATH = await helper("evil", `echo '{"Username":"x","Secret":"y"}'`);
  const evil = JSON.stringify({ credsStore: "evil", credHelpers: { "registry.tld": "evil", "docker.io": "../evil" } });
  const logins = await openLogins({ ...none, jobConfig: evil, env: { PATH } });
  expect(await logins.find(image("registry.tld/x"), never)).toEqual([]);
  expect(await logins.find(image("ruby"), never)).toEqual([]);
  expect(logins.warnings.join()).toMatch(/never run for a job/);
  await expect(readFile(join(dir, "asked"))).rejects.toThrow(/ENOENT/);
});
