import { expect, test } from "vitest";
import { choosePlaces } from "../../../executors/docker/places.ts";
import { dockerTable } from "../../../executors/docker/settings.ts";
import { planVolumes } from "../../../executors/docker/volumes.ts";
import { sampleJob } from "../../support/job.ts";

/** What jobs of a protected or another ref mount. */
function binds(table: Readonly<Record<string, unknown>>, isProtected: boolean): string[] {
  const settings = dockerTable.parse(table);
  const job = sampleJob();
  const request = {
    job: { ...job, git: { ...job.git, protected: isProtected } },
    jobKey: "key",
    runnerId: "0a1b2c3d",
    concurrentId: 0,
    projectPath: "group/project",
  };
  return planVolumes({
    settings,
    marks: { owner: { installation: "i", process: "p" }, request },
    places: choosePlaces({ buildsDir: "/builds", settings, request, slot: 0 }),
    slot: 0,
    workingDirectory: "/srv",
    privateVolume: false,
    expand: (text) => text,
  }).map(({ bind }) => bind);
}

test.each([{ volumes: ["/cache"] }, { volumes: ["/cache"], cache_dir: "/srv/caches" }, { cache_dir: "caches" }])(
  "with %j a protected ref gets nothing that another could have prepared",
  (table) => {
    const others = binds(table, false);
    const own = binds(table, true);
    expect(own).toHaveLength(others.length);
    expect(own.filter((bind) => others.includes(bind))).toEqual([]);
  },
);
