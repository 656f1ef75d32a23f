import { expect, test } from "vitest";
import { choosePlaces } from "../../../executors/docker/container/places.ts";
import { planVolumes } from "../../../executors/docker/job/volumes.ts";
import { dockerTable } from "../../../executors/docker/settings/settings.ts";
import type { Trust } from "../../../src/job/job.ts";
import { sampleRequest } from "../../support/executor-kit.ts";
import { sampleJob } from "../../support/job.ts";

/** What jobs of this trust mount. */
function binds(table: Readonly<Record<string, unknown>>, level: Trust["level"]): string[] {
  const settings = dockerTable.parse(table);
  const request = {
    job: sampleJob(),
    jobKey: `key-of-${level}`,
    runnerId: "0a1b2c3d",
    concurrentId: 0,
    projectPath: "group/project",
    trust: { level, source: "" },
    expand: (text: string) => text,
  };
  return planVolumes({
    settings,
    marks: { owner: { installation: "i", process: "p" }, request },
    places: choosePlaces({ buildsDir: "/builds", settings, request, slot: 0 }),
    slot: 0,
    workingDirectory: "/srv",
    privateVolume: false,
    expand: request.expand,
  }).map(({ bind }) => bind);
}

test.each([
  { volumes: ["/cache"] },
  { volumes: ["/cache"], cache_dir: "/srv/caches" },
  { cache_dir: "caches" },
  { volumes: ["/cache"], disable_cache: true, volume_keep: true },
])("with %j jobs of different trust get nothing of one another", (table) => {
  const all = (["project", "protected", "fork"] as const).map((level) => binds(table, level));
  expect(new Set(all.flat()).size).toBe(all.flat().length);
});

test.each([{ volumes: ["/cache"] }, { volumes: ["/cache"], cache_dir: "/srv/caches" }])(
  "with %j nothing of a fork's job is kept",
  (table) => {
    expect(binds(table, "fork").every((bind) => bind.startsWith("alloy-key-of-fork-"))).toBe(true);
  },
);

test("on a directory of the host places are apart as well", () => {
  const settings = dockerTable.parse({ volumes: ["/srv/builds:/builds"] });
  const roots = (["project", "protected", "fork"] as const).map((level) => {
    const request = { ...sampleRequest(), trust: { level, source: "" } };
    return choosePlaces({ buildsDir: "/builds", settings, request, slot: 0 }).root;
  });
  expect(roots).toEqual(["0", "0-protected", "0-fork"].map((slot) => `/builds/0a1b2c3d/${slot}/group/project`));
});
