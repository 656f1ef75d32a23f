import { parse as parseToml } from "@iarna/toml";
import { expect, test } from "vitest";
import { choose } from "../../../executors/kubernetes/settings/overwrites.ts";
import { kubernetesTable } from "../../../executors/kubernetes/settings/settings.ts";
import { plainVariable } from "../kubernetes-request.ts";

test("what a job chooses stays as it was checked; what the entry says is expanded", () => {
  const settings = kubernetesTable.parse(
    parseToml(`
pod_labels = { from = "$WHERE" }
pod_labels_overwrite_allowed = "team=[^/]*"
pod_annotations_overwrite_allowed = "note=[^/]*"
`),
  );
  const variables = [
    plainVariable("KUBERNETES_POD_LABELS_1", "team=$WHERE"),
    plainVariable("KUBERNETES_POD_ANNOTATIONS_1", "note=$WHERE"),
  ];
  const { labels, annotations } = choose(settings, { variables, expand: (text) => text.replace("$WHERE", "a/b") });
  expect(labels).toEqual({ from: "a/b", team: "$WHERE" });
  expect(annotations).toEqual({ note: "$WHERE" });
});
