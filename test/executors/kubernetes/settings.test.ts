import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parse as parseToml } from "@iarna/toml";
import { expect, test } from "vitest";
import { z } from "zod";
import { parsePattern } from "../../../executors/common/pattern.ts";
import { parseQuantity } from "../../../executors/kubernetes/settings/quantity.ts";
import { kubernetesTable } from "../../../executors/kubernetes/settings/settings.ts";
import { tableShape } from "../../../executors/kubernetes/settings/shape.ts";

test.each([
  ["1", "1000000000"],
  ["0.5", "500000000"],
  ["500m", "500000000"],
  [".5", "500000000"],
  ["100n", "100"],
  ["0.1n", "1"],
  ["2k", "2000000000000"],
  ["2e3", "2000000000000"],
  ["1Ki", "1024000000000"],
  ["1.5Gi", "1610612736000000000"],
  ["0", null],
  ["-1", null],
  ["1KB", null],
  ["half", null],
  ["1 Gi", null],
  ["", null],
])("the quantity %j is %j billionths", (text, nano) => {
  expect(parseQuantity(text)?.nano.toString() ?? null).toBe(nano);
});

test("a pattern has to cover the whole value", () => {
  const pattern = parsePattern("(?i)ci-[a-z]+");
  expect(pattern?.matches("CI-team")).toBe(true);
  expect(pattern?.matches("ci-team-prod1")).toBe(false);
  expect(pattern?.matchesPart("ci-team-prod1")).toBe(true);
  expect(parsePattern("\\Aci\\z")?.matches("ci")).toBe(true);
  expect(parsePattern(".*")?.matches("x".repeat(254))).toBe(false);
  expect(parsePattern("(")).toBeNull();
  expect(parsePattern("(?P<name>x)")).toBeNull();
});

/** All that is wrong with a table, as `path: message`. */
function problems(table: unknown): string[] {
  const parsed = kubernetesTable.safeParse(table);
  return parsed.success ? [] : parsed.error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`);
}

test.each([
  [{ cpu_limit: "half" }, /^cpu_limit: expected a quantity above zero/],
  [{ memory_limit: "0" }, /^memory_limit: expected a quantity/],
  [{ helper_memory_request: "2Gi", helper_memory_limit: "1Gi" }, /^helper_memory_request: is more than .*1Gi/],
  [{ namespace_overwrite_allowed: "ci-(" }, /^namespace_overwrite_allowed: expected a regular expression/],
  [{ namespace_per_job: true }, /^namespace_per_job: is not supported: jobs would share one namespace/],
  [{ pod_labels: { "a b": "c" } }, /^pod_labels\.a b: expected a name such as "team"/],
  [{ namespace: "No_Name" }, /^namespace: expected a name/],
  [{ pull_policy: "sometimes" }, /^pull_policy: expected "always"/],
  [{ dns_policy: "mine" }, /^dns_policy: expected "None"/],
  [{ dns_policy: "none" }, /^dns_config: needs nameservers/],
  [{ node_tolerations: { "a=b": "NoRun" } }, /^node_tolerations\.a=b: expected an effect/],
  [{ host: "k", cert_file: "c" }, /^ca_file: is missing/],
  [{ bearer_token: "t" }, /^bearer_token: is only used together with host/],
  [{ host: "k", context: "c" }, /^context: names a context/],
  [{ build_container_security_context: { proc_mount: "some" } }, /proc_mount: expected "Default", "Unmasked"/],
  [{ pod_security_context: { seccomp_profile: { type: "Mine" } } }, /seccomp_profile\.type: expected/],
  [{ pod_security_context: { seccomp_profile: { type: "Localhost" } } }, /localhost_profile: belongs to/],
  [{ volumes: { empty_dir: [{ name: "a", mount_path: "/a", size_limit: "much" }] } }, /empty_dir\.0\.size_limit/],
  [
    { volumes: { pvc: [{ name: "a", mount_path: "/a" }], secret: [{ name: "a", mount_path: "/b" }] } },
    /two volumes of the name "a"/,
  ],
  [{ volumes: { csi: [{ name: "a", mount_path: "/a" }] } }, /csi\.0\.driver/],
  [{ services: [{ alias: "db" }] }, /^services\.0/],
  [{ pod_spec: [{ name: "both", patch: "a", patch_path: "b" }] }, /needs one of patch and patch_path/],
  [{ container_lifecycle: { post_start: {} } }, /needs exactly one of/],
  [{ allowed_users: ["root"] }, /^allowed_users\.0: expected the number/],
  [{ cleanup_resources_timeout: "soon" }, /^cleanup_resources_timeout: expected a duration/],
  [{ node_selector: { "kubernetes.io/os": "windows" } }, /Windows nodes/],
])("%j is refused by name", (table, message) => {
  expect(problems(table).join("\n")).toMatch(message);
});

test("tables become what the API has, and what is not set is left out", () => {
  const settings = kubernetesTable.parse({
    cpu_limit: 2,
    memory_limit: "",
    helper_cpu_limit_overwrite_max_allowed: "1500m",
    node_tolerations: { "gpu=yes": "NoSchedule", spot: "", "": "NoExecute" },
    pod_security_context: { fs_group: 1000, seccomp_profile: { type: "runtime-default" } },
    build_container_security_context: { run_as_user: 0, capabilities: { drop: ["ALL"] } },
    affinity: {
      pod_anti_affinity: {
        preferred_during_scheduling_ignored_during_execution: [
          { weight: 50, pod_affinity_term: { topology_key: "zone", label_selector: { match_labels: { app: "x" } } } },
        ],
      },
    },
    volumes: {
      host_path: [{ name: "h", mount_path: "/h" }],
      config_map: [{ name: "c", mount_path: "/c", items: { a: "b" }, read_only: true }],
      empty_dir: [{ name: "e", mount_path: "/e", medium: "Memory", size_limit: "1Gi" }],
    },
    terminationGracePeriodSeconds: 0,
    poll_timeout: 0,
    dns_policy: "cluster-first-with-host-net",
  });
  expect([...settings.resources].map(([key, { text }]) => [key, text])).toEqual([["cpu_limit", "2"]]);
  expect(settings.mostAllowed.get("helper_cpu_limit")?.text).toBe("1500m");
  expect(settings.tolerations).toEqual([
    { key: "gpu", operator: "Equal", value: "yes", effect: "NoSchedule" },
    { key: "spot", operator: "Exists" },
    { operator: "Exists", effect: "NoExecute" },
  ]);
  expect(settings.podSecurityContext).toEqual({ fsGroup: 1000, seccompProfile: { type: "RuntimeDefault" } });
  expect(settings.securityContexts.build).toMatchObject({ runAsUser: 0, capabilities: { drop: ["ALL"] } });
  expect(settings.affinity).toEqual({
    podAntiAffinity: {
      preferredDuringSchedulingIgnoredDuringExecution: [
        { weight: 50, podAffinityTerm: { topologyKey: "zone", labelSelector: { matchLabels: { app: "x" } } } },
      ],
    },
  });
  expect(settings.volumes.map(({ name, source }) => source(name))).toEqual([
    { hostPath: { path: "/h" } },
    { configMap: { name: "c", items: [{ key: "a", path: "b" }] } },
    { emptyDir: { medium: "Memory", sizeLimit: "1Gi" } },
  ]);
  expect(settings).toMatchObject({
    graceSeconds: 0,
    cleanupGraceSeconds: 1,
    pollTimeoutMs: 180_000,
    dnsPolicy: "ClusterFirstWithHostNet",
  });
});

test("every key of the example is one of the table, and the example is valid", () => {
  const example = readFileSync(join(import.meta.dirname, "../../../config.example.toml"), "utf8");
  const [, block = ""] = /# \[runners\.kubernetes\]\n((?: {2}# {3}.*\n)+)/.exec(example) ?? [];
  const parsed = parseToml(`[runners.kubernetes]\n${block.replace(/^ {2}# {3}/gm, "").replace(/^ *# .*$/gm, "")}`);
  const { runners } = z.object({ runners: z.object({ kubernetes: z.record(z.string(), z.unknown()) }) }).parse(parsed);
  const known = new Set(Object.keys(tableShape));
  expect(Object.keys(runners.kubernetes).filter((key) => !known.has(key))).toEqual([]);
  expect(kubernetesTable.safeParse(runners.kubernetes).error).toBeUndefined();
});
