import { expect, test } from "vitest";
import {
  buildDirsAreApart as apartInDocker,
  choosePlaces as placesInDocker,
} from "../../executors/docker/container/places.ts";
import { dockerTable } from "../../executors/docker/settings/settings.ts";
import { mountsOf } from "../../executors/kubernetes/pod/from-settings.ts";
import {
  buildDirsAreApart as apartInPods,
  choosePlaces as placesInPods,
} from "../../executors/kubernetes/pod/places.ts";
import { kubernetesTable } from "../../executors/kubernetes/settings/settings.ts";
import { SystemFailure } from "../../src/errors.ts";
import { sampleRequest } from "../support/executor-kit.ts";

type Table = Readonly<Record<string, unknown>>;

const inDocker = (volumes: readonly string[], more: Table = {}): Table => ({ volumes, ...more });
const inPods = (kind: string, mount_path: string, more: Table = {}): Table => ({
  volumes: { [kind]: [{ name: "volume", mount_path, ...more }] },
});

test.each<[boolean, Table, string?]>([
  [true, inDocker([])],
  [true, inDocker(["/cache", "/builds/cache"])],
  [true, inDocker(["/srv/data:/data", "/srv/other:/builds2", "named:/b"])],
  [false, inDocker(["/srv/builds:/builds"])],
  [false, inDocker(["named:/builds/"])],
  [false, inDocker(["/srv/all:/"])],
  [false, inDocker(["/srv/data:/builds/data"])],
  [false, inDocker(["/srv/data:/cache/../builds/data"])],
  [false, inDocker(["/srv/data:$WHERE"])],
  [false, inDocker(["/srv/data:data"])],
  [false, inDocker([], { volumes_from: ["another"] })],
  [true, inDocker(["/srv/builds:/builds"]), "/elsewhere"],
  [false, inDocker(["/srv/builds:/elsewhere/x"]), "/elsewhere"],
])("by default jobs in containers choose their directory: %j with %j", (expected, table, buildsDir) => {
  expect(apartInDocker(dockerTable.parse(table), buildsDir)).toBe(expected);
});

test.each<[boolean, Table]>([
  [true, {}],
  [true, inPods("pvc", "/data")],
  [true, inPods("empty_dir", "/builds")],
  [false, inPods("pvc", "/builds")],
  [false, inPods("host_path", "/builds/data")],
  [false, inPods("nfs", "/", { server: "far", path: "/" })],
  [false, inPods("pvc", "$WHERE")],
  [false, { pod_spec: [{ name: "more", patch: "{}", patch_type: "merge" }] }],
])("by default jobs in pods choose their directory: %j with %j", (expected, table) => {
  expect(apartInPods(kubernetesTable.parse(table))).toBe(expected);
});

/** What becomes of a choice, in either executor. */
function choose(executor: "docker" | "kubernetes", table: Table, chosen: string) {
  const request = {
    ...sampleRequest(),
    chosenRoot: () => chosen,
    expand: (text: string) => text.replace("$DATA", "data"),
  };
  if (executor === "docker") {
    return placesInDocker({ buildsDir: "/builds", settings: dockerTable.parse(table), request, slot: 0 });
  }
  const settings = kubernetesTable.parse(table);
  const patched = settings.podSpec.length > 0;
  return placesInPods({ buildsDir: "/builds", mounts: mountsOf(settings, request.expand), patched, request, slot: 0 });
}

const SHARED = [
  ["docker", inDocker(["/srv/builds:/builds"])],
  ["kubernetes", inPods("pvc", "/builds")],
] as const;
const PARTLY = [
  ["docker", inDocker(["/srv/data:/builds/$DATA"])],
  ["kubernetes", inPods("pvc", "/builds/$DATA")],
] as const;

test.each(SHARED)("%s: on a shared directory nobody chooses what the runner keeps for its jobs", (executor, table) => {
  const runner = `/builds/${sampleRequest().runnerId}`;
  for (const chosen of [runner, `${runner}/1/group/project`, `${runner}/0`, `${runner}/0/group/project/x`]) {
    expect(() => choose(executor, table, chosen), chosen).toThrow(
      `GIT_CLONE_PATH is ${JSON.stringify(chosen)}, which is in "${runner}", where the runner keeps its jobs' directories`,
    );
  }
  const own = `${runner}/0/group/project`;
  expect(choose(executor, table, own)).toMatchObject({ root: own, chosen: null });
  expect(choose(executor, table, "/builds/app")).toMatchObject({ root: "/builds/app", chosen: "among-others" });
});

test.each(PARTLY)("%s: nobody chooses a volume in the builds directory, or what holds it", (executor, table) => {
  for (const chosen of ["/builds/data", "/builds/data/x"]) {
    expect(() => choose(executor, table, chosen), chosen).toThrow(/is in the volume at "\/builds\/data"/);
  }
  expect(() => choose(executor, inDeeper(table), "/builds/data")).toThrow(/holds the volume at "\/builds\/data\/deep"/);
  expect(() => choose(executor, table, "/builds/data")).toThrow(SystemFailure);
  expect(choose(executor, table, "/builds/data2")).toMatchObject({ root: "/builds/data2", chosen: "apart" });
});

function inDeeper(table: Table): Table {
  return JSON.parse(JSON.stringify(table).replace("$DATA", "$DATA/deep"));
}

test("where nobody knows what is mounted in the builds directory it is taken for others' as well", () => {
  expect(choose("docker", { volumes_from: ["another"] }, "/builds/app").chosen).toBe("among-others");
  const patched = { pod_spec: [{ name: "more", patch: "{}", patch_type: "merge" }] };
  expect(choose("kubernetes", patched, "/builds/app").chosen).toBe("among-others");
});
