import { expect, test } from "vitest";
import { patched } from "../../../executors/kubernetes/pod/patch.ts";
import { withPatches } from "../../../executors/kubernetes/pod/with-patches.ts";
import { ScriptFailure } from "../../../src/errors.ts";

const spec = {
  containers: [{ name: "build", image: "a", env: [{ name: "A", value: "1" }] }, { name: "helper" }],
  n: 1,
};
const by = (type: "strategic" | "merge" | "json", text: string) => patched(spec, { name: '"p"', type, text });

test("a strategic patch changes what it names in a list, a merge patch replaces the list", () => {
  const yaml = "containers:\n- name: build\n  env:\n  - {name: B, value: '2'}\n- {name: new}\nn: null";
  expect(by("strategic", yaml)).toEqual({
    containers: [
      {
        name: "build",
        image: "a",
        env: [
          { name: "A", value: "1" },
          { name: "B", value: "2" },
        ],
      },
      { name: "helper" },
      { name: "new" },
    ],
  });
  expect(by("strategic", '{"containers": [{"name": "helper", "$patch": "delete"}]}')).toMatchObject({
    containers: [{ name: "build" }],
  });
  expect(by("merge", "containers: [{name: only}]")).toEqual({ containers: [{ name: "only" }], n: 1 });
});

test("operations are done in order, and one that does not fit is an error with the patch's name", () => {
  const operations = [
    { op: "test", path: "/n", value: 1 },
    { op: "replace", path: "/containers/0/image", value: "b" },
    { op: "add", path: "/containers/-", value: { name: "x/y" } },
    { op: "copy", from: "/containers/2/name", path: "/a~1b" },
    { op: "remove", path: "/n" },
  ];
  expect(by("json", JSON.stringify(operations))).toMatchObject({
    containers: [{ image: "b" }, {}, { name: "x/y" }],
    "a/b": "x/y",
  });
  for (const bad of [
    { op: "remove", path: "/nothing" },
    { op: "replace", path: "/containers/9", value: 1 },
  ]) {
    expect(() => by("json", JSON.stringify([bad]))).toThrow(/The patch "p" .* does not fit/);
  }
  expect(() => by("merge", "[1]")).toThrow(/no table of fields/);
});

test("a job's service never becomes a container that the operator adds", () => {
  const own = { name: "build", volumeMounts: [] };
  const manifest = { spec: { restartPolicy: "Never", containers: [own, { name: "agent", command: ["sh"] }] } };
  const add = (more: string) => [
    { name: '"p"', type: "strategic" as const, text: `containers: [{name: agent, ${more}}, {name: build, image: x}]` },
  ];
  const taking = () => withPatches(manifest, add("image: vault, volumeMounts: [{name: keys, mountPath: /keys}]"));
  expect(taking).toThrow(ScriptFailure);
  expect(taking).toThrow(/A service of the job is called agent, .*the patch "p" .* another alias/);
  // A patch that brings no image is for the service.
  expect(withPatches(manifest, add("tty: true"))).toMatchObject({ spec: { containers: [{}, { tty: true }] } });
});
