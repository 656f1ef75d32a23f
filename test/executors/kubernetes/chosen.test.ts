import { parse as parseToml } from "@iarna/toml";
import { expect, test } from "vitest";
import { knownLabels } from "../../../executors/kubernetes/pod/labels.ts";
import { choose } from "../../../executors/kubernetes/settings/overwrites.ts";
import { kubernetesTable } from "../../../executors/kubernetes/settings/settings.ts";
import { sampleJob } from "../../support/job.ts";
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

test("the labels of a project are the coordinator's, whatever a job sets behind its variables", () => {
  const job = {
    ...sampleJob({ dialect: "gitlab", timeoutMs: 60_000 }),
    projectName: "mine",
    variables: [
      plainVariable("CI_PROJECT_NAMESPACE", "people/me"),
      plainVariable("CI_PROJECT_NAMESPACE", "secure"),
      plainVariable("CI_PROJECT_NAME", "payments"),
    ],
  };
  expect(knownLabels({ job, runnerId: "0a1b2c3d" }, "x")).toMatchObject({
    "project.runner.gitlab.com/name": "mine",
    "project.runner.gitlab.com/namespace": "people_me",
    "project.runner.gitlab.com/root-namespace": "people",
  });
});
