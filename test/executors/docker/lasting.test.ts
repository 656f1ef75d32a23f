import { expect, test } from "vitest";
import type { JobContainer } from "../../../executors/docker/container/job-container.ts";
import { handleOf, readHandle } from "../../../executors/docker/job/lasting/handle.ts";
import { canLast } from "../../../executors/docker/job/lasting/prepared.ts";
import type { RemoteTools } from "../../../executors/remote/index.ts";

const tools = (...names: string[]): RemoteTools => ({
  ...{ sh: "/bin/sh", bash: null, uid: 0, gid: 0, stat: null, tar: null, exactRead: null },
  programs: new Map(names.map((name) => [name, `/bin/${name}`] as [never, string])),
});
const WHOLE = ["dd", "tail", "wc", "cat", "sleep", "mkdir", "git"];
const container = (parts: Partial<JobContainer> = {}): JobContainer => ({
  ...{ id: "c1", name: "the build container", image: "ruby:3", tools: tools(...WHOLE) },
  ...{ user: undefined, env: ["TOKEN=hush-4711"], trusted: false },
  ...parts,
});

test("what goes on with a job finds its containers by the handle, which holds nothing of their environment", () => {
  const build = container();
  const helper = container({ id: "c2", name: "the helper container", user: "7:8", trusted: true });
  const handle = handleOf({
    ...{ engine: "unix:///var/run/docker.sock", installation: "i", shell: "bash", slot: 2, build, helper },
    places: { buildsDir: "/builds", root: "/builds/a/b", tmpDir: "/t", shared: false, chosen: null },
    ...{
      network: { id: "n", name: "net" },
      networkName: "net",
      keeps: null,
      own: new Set(["17", "18"]),
      imageSeconds: 1.5,
    },
    services: [{ id: "s", wanted: { name: "redis" }, names: ["redis"] }],
  });
  expect(JSON.stringify(handle)).not.toContain("hush-4711");
  expect(readHandle(JSON.parse(JSON.stringify(handle)))).toMatchObject({
    ...{ slot: 2, network: { id: "n", name: "net" }, own: ["17", "18"], imageSeconds: 1.5 },
    build: { id: "c1", user: null, tools: { programs: new Map(WHOLE.map((name) => [name, `/bin/${name}`])) } },
    helper: { id: "c2", user: "7:8", trusted: true },
    services: [{ id: "s", name: "redis", names: ["redis"] }],
  });
  expect(() => readHandle({ ...handle, build: "{" })).toThrow("cannot be read");
});

test("a job whose image lacks a program ends with the runner, and its trace says so", () => {
  const said: string[] = [];
  const notes = { print: (text: string) => void said.push(text) };
  expect(canLast([container(), container()], notes)).toBe(true);
  expect(said).toEqual([]);
  expect(canLast([container({ tools: tools("cat", "sleep", "mkdir", "wc") })], notes)).toBe(false);
  expect(said).toEqual(["A restart of the runner ends this job: the image ruby:3 has no dd, tail"]);
});
