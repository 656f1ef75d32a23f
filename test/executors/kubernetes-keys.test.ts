import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { z } from "zod";
import { tableShape } from "../../executors/kubernetes/settings/shape.ts";
import type { Job } from "../../src/job/job.ts";
import { never } from "../../src/time.ts";
import { noCluster, useCluster } from "../support/cluster/cluster.ts";
import { Sink } from "../support/executor-kit.ts";
import { imageNamed, plainVariable, requestOf, serviceNamed } from "./kubernetes-request.ts";
import { type KubernetesStand, openStand } from "./kubernetes-stand.ts";

/**
 * Each key of `[runners.kubernetes]` is compared with the pod that a real API server has stored. The pods name a
 * scheduler that does not exist, so none of them starts.
 */
const NOBODY = "nobody-schedules";

const cluster = await useCluster();

type Json = ReturnType<JSON["parse"]>;
/** Key, its value in the table, where in the pod it shows, and what is to be there. */
type Row = readonly [key: string, value: unknown, shows: (pod: Json) => unknown, expected: unknown];

const build = (pod: Json) => pod.spec.containers[0];
const helper = (pod: Json) => pod.spec.containers[1];
const service = (pod: Json) => pod.spec.containers[2];
const volume = (name: string) => (pod: Json) => {
  const found = pod.spec.volumes.find((one: Json) => one.name === name);
  const mounts = pod.spec.containers.map(({ volumeMounts }: Json) =>
    volumeMounts.find((one: Json) => one.name === name),
  );
  // The mounts must be the same in all containers.
  expect(new Set(mounts.map((mount: Json) => JSON.stringify(mount))).size).toBe(1);
  const { name: _, ...source } = found;
  return { ...source, mount: mounts[0] };
};

const amount = (key: string, value: string): Row => {
  const [, kind = "", what = "", side = ""] =
    /^(service_|helper_|pod_)?(cpu|memory|ephemeral_storage)_(\w+)$/.exec(key) ?? [];
  const name = what.replace("_", "-");
  return [
    key,
    value,
    (pod) => {
      const at =
        kind === "pod_" ? pod.spec : kind === "helper_" ? helper(pod) : kind === "service_" ? service(pod) : build(pod);
      return at.resources?.[`${side}s`]?.[name];
    },
    value,
  ];
};

const context = (key: string, at: (pod: Json) => Json, uid: number): Row => [
  key,
  {
    run_as_user: uid,
    run_as_group: uid + 1,
    run_as_non_root: true,
    read_only_root_filesystem: true,
    allow_privilege_escalation: false,
    proc_mount: "default",
    selinux_type: "spc_t",
    seccomp_profile: { type: "Unconfined" },
    app_armor_profile: { type: "Localhost", localhost_profile: "own" },
    capabilities: { add: ["CHOWN"], drop: ["ALL"] },
  },
  (pod) => at(pod).securityContext,
  {
    runAsUser: uid,
    runAsGroup: uid + 1,
    runAsNonRoot: true,
    readOnlyRootFilesystem: true,
    allowPrivilegeEscalation: false,
    procMount: "Default",
    seLinuxOptions: { type: "spc_t" },
    seccompProfile: { type: "Unconfined" },
    appArmorProfile: { type: "Localhost", localhostProfile: "own" },
    capabilities: { add: ["CHOWN"], drop: ["ALL"] },
  },
];

/** Pods, each with the keys that one of them can show. */
const pods: Readonly<Record<string, readonly Row[]>> = {
  "how much, where, and whose": [
    amount("cpu_request", "100m"),
    amount("cpu_limit", "200m"),
    amount("memory_request", "16Mi"),
    amount("memory_limit", "1Gi"),
    amount("ephemeral_storage_request", "1G"),
    amount("ephemeral_storage_limit", "2G"),
    amount("service_cpu_request", "101m"),
    amount("service_cpu_limit", "201m"),
    amount("service_memory_request", "17Mi"),
    amount("service_memory_limit", "33Mi"),
    amount("service_ephemeral_storage_request", "3G"),
    amount("service_ephemeral_storage_limit", "4G"),
    amount("helper_cpu_request", "102m"),
    amount("helper_cpu_limit", "202m"),
    amount("helper_memory_request", "18Mi"),
    amount("helper_memory_limit", "34Mi"),
    amount("helper_ephemeral_storage_request", "5G"),
    amount("helper_ephemeral_storage_limit", "6G"),
    amount("pod_cpu_request", "1"),
    amount("pod_cpu_limit", "2"),
    amount("pod_memory_request", "1Gi"),
    amount("pod_memory_limit", "2Gi"),
    [
      "node_selector",
      { "kubernetes.io/os": "linux", zone: "a" },
      ({ spec }) => spec.nodeSelector,
      { "kubernetes.io/os": "linux", zone: "a" },
    ],
    [
      "node_tolerations",
      { "gpu=yes": "NoSchedule", spot: "" },
      ({ spec }) => spec.tolerations.slice(0, 2),
      [
        { key: "gpu", operator: "Equal", value: "yes", effect: "NoSchedule" },
        { key: "spot", operator: "Exists" },
      ],
    ],
    [
      "affinity",
      {
        node_affinity: {
          required_during_scheduling_ignored_during_execution: {
            node_selector_terms: [
              { match_expressions: [{ key: "disk", operator: "In", values: ["ssd"] }], match_fields: [] },
            ],
          },
          preferred_during_scheduling_ignored_during_execution: [
            { weight: 5, preference: { match_expressions: [{ key: "rack", operator: "Exists" }] } },
          ],
        },
        pod_anti_affinity: {
          required_during_scheduling_ignored_during_execution: [
            {
              topology_key: "zone",
              label_selector: { match_labels: { a: "b" } },
              namespaces: ["other"],
              namespace_selector: { match_expressions: [{ key: "team", operator: "Exists" }] },
              match_label_keys: ["pod-template-hash"],
            },
          ],
        },
        pod_affinity: {
          preferred_during_scheduling_ignored_during_execution: [
            { weight: 7, pod_affinity_term: { topology_key: "node" } },
          ],
        },
      },
      ({ spec }) => spec.affinity,
      {
        nodeAffinity: {
          requiredDuringSchedulingIgnoredDuringExecution: {
            nodeSelectorTerms: [{ matchExpressions: [{ key: "disk", operator: "In", values: ["ssd"] }] }],
          },
          preferredDuringSchedulingIgnoredDuringExecution: [
            { weight: 5, preference: { matchExpressions: [{ key: "rack", operator: "Exists" }] } },
          ],
        },
        podAntiAffinity: {
          requiredDuringSchedulingIgnoredDuringExecution: [
            {
              topologyKey: "zone",
              labelSelector: { matchLabels: { a: "b" } },
              namespaces: ["other"],
              namespaceSelector: { matchExpressions: [{ key: "team", operator: "Exists" }] },
              matchLabelKeys: ["pod-template-hash"],
            },
          ],
        },
        podAffinity: {
          preferredDuringSchedulingIgnoredDuringExecution: [{ weight: 7, podAffinityTerm: { topologyKey: "node" } }],
        },
      },
    ],
    ["scheduler_name", NOBODY, ({ spec }) => spec.schedulerName, NOBODY],
    ["priority_class_name", "PRIORITY", ({ spec }) => spec.priorityClassName, "PRIORITY"],
    ["runtime_class_name", "RUNTIME", ({ spec }) => spec.runtimeClassName, "RUNTIME"],
    ["service_account", "jobs", ({ spec }) => spec.serviceAccountName, "jobs"],
    ["pod_labels", { team: "$CI_X and more" }, ({ metadata }) => metadata.labels.team, "expanded_and_more"],
    ["pod_annotations", { note: "$CI_X & more" }, ({ metadata }) => metadata.annotations.note, "expanded & more"],
    [
      "image_pull_secrets",
      ["one", "$CI_X"],
      ({ spec }) => spec.imagePullSecrets,
      [{ name: "one" }, { name: "expanded" }],
    ],
    ["image", "alloy.test/$CI_X:1", (pod) => build(pod).image, "alloy.test/expanded:1"],
    ["helper_image", "alloy.test/helper-$CI_RUNNER_VERSION", (pod) => helper(pod).image, "alloy.test/helper-1"],
    [
      "pull_policy",
      "never",
      ({ spec }) => spec.containers.map((one: Json) => one.imagePullPolicy),
      ["Never", "Never", "Never"],
    ],
    [
      "services",
      [
        {
          name: "alloy.test/db:2",
          alias: "db, base",
          command: ["run", "$X"],
          entrypoint: ["start"],
          environment: ["A=$CI_X"],
        },
      ],
      (pod) => {
        const { name, image, command, args, env } = service(pod);
        return {
          name,
          image,
          command,
          args,
          env: env.filter((one: Json) => one.name === "A"),
          hosts: pod.spec.hostAliases[0],
        };
      },
      {
        name: "db",
        image: "alloy.test/db:2",
        command: ["start"],
        args: ["run", "$X"],
        env: [{ name: "A", value: "expanded" }],
        hosts: { ip: "127.0.0.1", hostnames: ["alloy.test-db", "db", "base"] },
      },
    ],
    [
      "host_aliases",
      [{ ip: "192.0.2.7", hostnames: ["a.test", "b.test"] }],
      ({ spec }) => spec.hostAliases[1],
      { ip: "192.0.2.7", hostnames: ["a.test", "b.test"] },
    ],
    ["dns_policy", "none", ({ spec }) => spec.dnsPolicy, "None"],
    [
      "dns_config",
      {
        nameservers: ["192.0.2.53"],
        searches: ["ci.test"],
        options: [{ name: "ndots", value: "2" }, { name: "edns0" }],
      },
      ({ spec }) => spec.dnsConfig,
      {
        nameservers: ["192.0.2.53"],
        searches: ["ci.test"],
        options: [{ name: "ndots", value: "2" }, { name: "edns0" }],
      },
    ],
    ["pod_termination_grace_period_seconds", 42, ({ spec }) => spec.terminationGracePeriodSeconds, 42],
    [
      "container_lifecycle",
      { post_start: { exec: { command: ["a"] } }, pre_stop: { http_get: { port: 80, path: "/x", scheme: "HTTP" } } },
      (pod) => [build(pod).lifecycle, helper(pod).lifecycle, service(pod).lifecycle][2],
      { postStart: { exec: { command: ["a"] } }, preStop: { httpGet: { port: 80, path: "/x", scheme: "HTTP" } } },
    ],
    [
      "volumes",
      {
        host_path: [
          { name: "hp", mount_path: "/hp", host_path: "/srv", mount_propagation: "HostToContainer", read_only: true },
        ],
        pvc: [{ name: "claim-$CI_X", mount_path: "/pvc/$CI_X", sub_path: "a/$CI_X" }],
        config_map: [{ name: "cm", mount_path: "/cm", items: { key: "file" } }],
        secret: [{ name: "sec", mount_path: "/sec", items: { key: "file" }, read_only: true }],
        empty_dir: [{ name: "repo", mount_path: "/builds", medium: "Memory", size_limit: "1Gi" }],
        csi: [
          {
            name: "csi",
            mount_path: "/csi",
            driver: "d.test",
            fs_type: "ext4",
            volume_attributes: { a: "b" },
            read_only: true,
          },
        ],
        nfs: [{ name: "nfs", mount_path: "/nfs", server: "nfs.test", path: "/export", read_only: true }],
      },
      (pod) =>
        Object.fromEntries(
          ["hp", "claim-expanded", "cm", "sec", "repo", "csi", "nfs"].map((name) => [name, volume(name)(pod)]),
        ),
      {
        hp: {
          hostPath: { path: "/srv", type: "" },
          mount: { name: "hp", mountPath: "/hp", readOnly: true, mountPropagation: "HostToContainer" },
        },
        "claim-expanded": {
          persistentVolumeClaim: { claimName: "claim-expanded" },
          mount: { name: "claim-expanded", mountPath: "/pvc/expanded", subPath: "a/expanded" },
        },
        cm: {
          configMap: { name: "cm", items: [{ key: "key", path: "file" }], defaultMode: 420 },
          mount: { name: "cm", mountPath: "/cm" },
        },
        sec: {
          secret: { secretName: "sec", items: [{ key: "key", path: "file" }], defaultMode: 420 },
          mount: { name: "sec", mountPath: "/sec", readOnly: true },
        },
        // `repo` is GitLab Runner's name for the volume at builds_dir; its medium is chosen in this documented way.
        repo: { emptyDir: { medium: "Memory", sizeLimit: "1Gi" }, mount: { name: "repo", mountPath: "/builds" } },
        csi: {
          csi: { driver: "d.test", fsType: "ext4", readOnly: true, volumeAttributes: { a: "b" } },
          mount: { name: "csi", mountPath: "/csi", readOnly: true },
        },
        nfs: {
          nfs: { server: "nfs.test", path: "/export", readOnly: true },
          mount: { name: "nfs", mountPath: "/nfs", readOnly: true },
        },
      },
    ],
  ],
  "who runs it": [
    ["scheduler_name", NOBODY, ({ spec }) => spec.schedulerName, NOBODY],
    ["image", "alloy.test/i", (pod) => build(pod).image, "alloy.test/i"],
    ["services", ["alloy.test/s"], (pod) => service(pod).image, "alloy.test/s"],
    ["automount_service_account_token", true, ({ spec }) => spec.automountServiceAccountToken, true],
    ["terminationGracePeriodSeconds", 7, ({ spec }) => spec.terminationGracePeriodSeconds, 7],
    ["use_service_account_image_pull_secrets", true, ({ spec }) => spec.imagePullSecrets, undefined],
    ["pull_policy", ["always", "never"], (pod) => build(pod).imagePullPolicy, "Always"],
    [
      "pod_security_context",
      {
        run_as_user: 5,
        run_as_group: 6,
        run_as_non_root: true,
        fs_group: 7,
        supplemental_groups: [8, 9],
        selinux_type: "pod_t",
        seccomp_profile: { type: "localhost", localhost_profile: "a.json" },
        app_armor_profile: { type: "RuntimeDefault" },
      },
      ({ spec }) => spec.securityContext,
      {
        runAsUser: 5,
        runAsGroup: 6,
        runAsNonRoot: true,
        fsGroup: 7,
        supplementalGroups: [8, 9],
        seLinuxOptions: { type: "pod_t" },
        seccompProfile: { type: "Localhost", localhostProfile: "a.json" },
        appArmorProfile: { type: "RuntimeDefault" },
      },
    ],
    context("build_container_security_context", build, 1000),
    context("helper_container_security_context", helper, 2000),
    context("service_container_security_context", service, 3000),
    // Pods of this runner have no such container.
    ["init_permissions_container_security_context", { run_as_user: 1 }, ({ spec }) => spec.initContainers, undefined],
    [
      "pod_spec",
      [
        {
          name: "strategic",
          patch: "containers: [{name: build, workingDir: /w}, {name: side, image: alloy.test/side}]",
        },
        { name: "json", patch_type: "json", patch: '[{"op": "add", "path": "/hostname", "value": "h"}]' },
        { name: "merge", patch_type: "merge", patch: "subdomain: d" },
      ],
      (pod) => [build(pod).workingDir, pod.spec.containers.at(-1).name, pod.spec.hostname, pod.spec.subdomain],
      ["/w", "side", "h", "d"],
    ],
  ],
  privileged: [
    ["scheduler_name", NOBODY, ({ spec }) => spec.schedulerName, NOBODY],
    ["image", "alloy.test/i", (pod) => build(pod).image, "alloy.test/i"],
    ["services", ["alloy.test/s"], (pod) => service(pod).image, "alloy.test/s"],
    [
      "privileged",
      true,
      ({ spec }) => spec.containers.map((one: Json) => one.securityContext.privileged),
      [true, true, true],
    ],
    ["cleanup_grace_period_seconds", 3, ({ spec }) => spec.terminationGracePeriodSeconds, 5],
  ],
  capabilities: [
    ["scheduler_name", NOBODY, ({ spec }) => spec.schedulerName, NOBODY],
    ["image", "alloy.test/i", (pod) => build(pod).image, "alloy.test/i"],
    [
      "allow_privilege_escalation",
      false,
      ({ spec }) => spec.containers.map((one: Json) => one.securityContext.allowPrivilegeEscalation),
      [false, false],
    ],
    ["cap_add", ["SYS_PTRACE", "CHOWN"], (pod) => build(pod).securityContext.capabilities.add, ["SYS_PTRACE"]],
    ["cap_drop", ["CAP_CHOWN"], (pod) => build(pod).securityContext.capabilities.drop, ["CHOWN", "NET_RAW"]],
  ],
};

describe("keys of [runners.kubernetes]", () => {
  if (cluster === null) {
    test.skip(`needs a cluster: ${noCluster}`, () => {});
    return;
  }
  let stand: KubernetesStand;
  /** Objects of the whole cluster that this file makes. */
  const own: string[] = [];
  beforeAll(async () => {
    stand = await openStand(cluster);
    const { namespace } = stand;
    await cluster.kubectl(["create", "serviceaccount", "jobs", "-n", namespace]);
    own.push(`priorityclass/${namespace}`, `runtimeclass/${namespace}`);
    const metadata = { name: namespace };
    const classes = [
      { apiVersion: "scheduling.k8s.io/v1", kind: "PriorityClass", metadata, value: 1 },
      { apiVersion: "node.k8s.io/v1", kind: "RuntimeClass", metadata, handler: "runc" },
    ];
    await cluster.kubectl(["create", "-f", "-"], JSON.stringify({ apiVersion: "v1", kind: "List", items: classes }));
  }, 60_000);
  afterAll(async () => {
    if (own.length > 0) await cluster.kubectl(["delete", ...own]);
    stand.close();
  });

  /** The pod as the API server has stored it, for a job that waits for it in vain. */
  const storedPod = async (
    table: Readonly<Record<string, unknown>>,
    job: Partial<Job> = {},
    environment: Parameters<typeof requestOf>[1] = [],
  ): Promise<Json> => {
    const executor = stand.open({}, { image: undefined, helper_image: undefined, pull_policy: "", ...table });
    const over = new AbortController();
    const variables = [plainVariable("CI_X", "expanded"), ...(job.variables ?? [])];
    const request = requestOf({ image: null, ...job, variables }, environment);
    const notes = new Sink();
    const preparing = executor.prepare(request, notes, over.signal).then(() => null);
    onTestFinished(async () => {
      over.abort(new Error("seen enough"));
      await preparing.catch(() => {});
      await executor.close(never);
    });
    const seen = vi.waitFor(
      async () => {
        const selector = `alloy-runner.job-key=${request.jobKey}`;
        const text = await cluster.kubectl(["get", "pods", "-n", stand.namespace, "-l", selector, "-o", "json"]);
        const [pod] = JSON.parse(text).items;
        if (pod === undefined) throw new Error(`there is no pod: ${notes.text}`);
        return pod;
      },
      { timeout: 30_000, interval: 50 },
    );
    seen.catch(() => {});
    return await Promise.race([seen, preparing]);
  };

  test.each(Object.entries(pods))("the pod has what they say: %s", { timeout: 60_000 }, async (_, rows) => {
    const real = (text: string): string => text.replaceAll(/PRIORITY|RUNTIME/g, stand.namespace);
    const table = Object.fromEntries(rows.map(([key, value]) => [key, JSON.parse(real(JSON.stringify(value)))]));
    const pod = await storedPod(table);
    const found = Object.fromEntries(rows.map(([key, , shows]) => [key, shows(pod)]));
    const expected = Object.fromEntries(
      rows.map(([key, , , value]) => [key, value === undefined ? undefined : JSON.parse(real(JSON.stringify(value)))]),
    );
    expect(found).toEqual(expected);
  });

  test("what a job may choose is in its pod, and what it may not is as the entry says", {
    timeout: 60_000,
  }, async () => {
    const amounts = ["", "helper_", "service_"].flatMap((kind) =>
      ["cpu", "memory", "ephemeral_storage"].flatMap((what) =>
        ["request", "limit"].map((side) => `${kind}${what}_${side}`),
      ),
    );
    const ofPod = ["pod_cpu_request", "pod_cpu_limit", "pod_memory_request", "pod_memory_limit"];
    const keys = [...amounts, ...ofPod];
    const value = (key: string): string => {
      if (key.startsWith("pod_")) return key.includes("cpu") ? "2" : "1Gi";
      return key.includes("cpu") ? "300m" : "30Mi";
    };
    const pod = await storedPod(
      {
        scheduler_name: NOBODY,
        image: "alloy.test/i",
        ...Object.fromEntries(keys.map((key) => [`${key}_overwrite_max_allowed`, "1Gi"])),
        pod_labels_overwrite_allowed: "team=.*",
        pod_annotations_overwrite_allowed: "note=.*",
        node_selector_overwrite_allowed: "zone=[a-z]+",
        node_tolerations_overwrite_allowed: "spot(=.*)?",
        service_account_overwrite_allowed: "job.",
        namespace_overwrite_allowed: "test-.*",
        allowed_users: ["0", "77"],
        allowed_groups: ["88"],
        allowed_images: ["alloy.test/**"],
        allowed_services: ["alloy.test/s*"],
        allowed_pull_policies: ["always", "never"],
        namespace: "not-this-one",
      },
      {
        image: imageNamed("alloy.test/other", { pullPolicies: ["never"], kubernetesUser: "77:88" }),
        services: [
          serviceNamed("alloy.test/s1", {
            kubernetesUser: "0",
            variables: [plainVariable("KUBERNETES_SERVICE_CPU_LIMIT", "800m")],
          }),
          serviceNamed("alloy.test/s2"),
        ],
        variables: [
          ...keys.map((key) => plainVariable(`KUBERNETES_${key.toUpperCase()}`, value(key))),
          plainVariable("KUBERNETES_POD_LABELS_a", "team=$CI_X"),
          plainVariable("KUBERNETES_POD_ANNOTATIONS_a", "note=a=b"),
          plainVariable("KUBERNETES_NODE_SELECTOR_a", "zone=b"),
          plainVariable("KUBERNETES_NODE_TOLERATIONS_a", "spot=yes:NoExecute"),
          plainVariable("KUBERNETES_SERVICE_ACCOUNT_OVERWRITE", "jobs"),
          plainVariable("KUBERNETES_NAMESPACE_OVERWRITE", stand.namespace),
        ],
      },
    );
    const { containers, ...spec } = pod.spec;
    const all = { cpu: "300m", memory: "30Mi", "ephemeral-storage": "30Mi" };
    expect(containers.map(({ resources }: Json) => resources.requests)).toEqual([all, all, all, all]);
    expect(containers.map(({ resources }: Json) => resources.limits)).toEqual([all, all, { ...all, cpu: "800m" }, all]);
    expect(spec.resources).toEqual({ requests: { cpu: "2", memory: "1Gi" }, limits: { cpu: "2", memory: "1Gi" } });
    expect(spec).toMatchObject({ nodeSelector: { zone: "b" }, serviceAccountName: "jobs" });
    expect(spec.tolerations[0]).toEqual({ key: "spot", operator: "Equal", value: "yes", effect: "NoExecute" });
    expect(pod.metadata).toMatchObject({ labels: { team: "expanded" }, annotations: { note: "a=b" } });
    expect(containers[0]).toMatchObject({ image: "alloy.test/other", imagePullPolicy: "Never" });
    // The helper makes the checkout as the user that works in it.
    const ids = containers.map(({ securityContext: { runAsUser, runAsGroup } }: Json) => [runAsUser, runAsGroup]);
    expect(ids).toEqual([
      [77, 88],
      [77, 88],
      [0, undefined],
      [undefined, undefined],
    ]);
  });

  test.each([
    [undefined, { A_TOKEN: undefined, http_proxy: "http://proxy" }],
    [["HTTP_*"], { A_TOKEN: "tell-nobody", http_proxy: undefined }],
    [[], { A_TOKEN: "tell-nobody", http_proxy: "http://proxy" }],
  ])("services_environment_exclude = %j", { timeout: 60_000 }, async (exclude, expected) => {
    const pod = await storedPod(
      {
        scheduler_name: NOBODY,
        image: "alloy.test/i",
        services: ["alloy.test/s"],
        services_environment_exclude: exclude,
      },
      {},
      [
        { key: "A_TOKEN", value: "tell-nobody" },
        { key: "http_proxy", value: "http://proxy" },
      ],
    );
    const { env } = service(pod);
    const given = (name: string): unknown => env.find((one: Json) => one.name === name)?.value;
    expect({ A_TOKEN: given("A_TOKEN"), http_proxy: given("http_proxy") }).toEqual(expected);
  });

  const refused: readonly (readonly [string, Readonly<Record<string, unknown>>, Partial<Job>, RegExp])[] = [
    [
      "user 0 that nobody allowed",
      {},
      { image: imageNamed("a", { kubernetesUser: "00" }) },
      /run as user 00, and allowed_users .* allows all but 0/,
    ],
    [
      "a user that is not listed",
      { allowed_users: ["5"] },
      { image: imageNamed("a", { kubernetesUser: "6" }) },
      /user 6, and allowed_users .* allows 5$/,
    ],
    [
      "a group that is not listed",
      { allowed_groups: ["5"] },
      { image: imageNamed("a", { kubernetesUser: "6:7" }) },
      /group 7, and allowed_groups/,
    ],
    [
      "a user by name",
      {},
      { image: imageNamed("a", { kubernetesUser: "root" }) },
      /"root" \(kubernetes\.user\): expected a number/,
    ],
    ["an image that is not allowed", { allowed_images: ["b"] }, { image: imageNamed("a") }, /allowed_images/],
    [
      "a service that is not allowed",
      { allowed_services: ["b"] },
      { image: imageNamed("a"), services: [serviceNamed("s")] },
      /allowed_services/,
    ],
    [
      "a pull policy that is not allowed",
      { pull_policy: "always" },
      { image: imageNamed("a", { pullPolicies: ["never"] }) },
      /allowed_pull_policies/,
    ],
    [
      "a label without a name",
      { pod_labels_overwrite_allowed: ".*" },
      { image: imageNamed("a"), variables: [plainVariable("KUBERNETES_POD_LABELS_1", "a b=c")] },
      /"a b" is no name of a label/,
    ],
  ];
  test.each(refused)("%s is refused before anything is made", async (_, table, job, message) => {
    await expect(storedPod({ scheduler_name: NOBODY, ...table }, job)).rejects.toThrow(message);
  });

  test("each key is looked at here, or known to show elsewhere than in a pod", () => {
    const here = new Set(Object.values(pods).flatMap((rows) => rows.map(([key]) => key)));
    const chosen = /_overwrite_(?:allowed|max_allowed)$|^allowed_/;
    // Keys that other files test: the way to the cluster (kubernetes-logins.test.ts); calls, waits and clean-up
    // (kubernetes-jobs.test.ts, api.test.ts).
    const elsewhere = z
      .string()
      .transform((text) => text.split(/\s+/))
      .parse(
        `host context cert_file key_file ca_file bearer_token retry_limit retry_backoff_max retry_limits namespace namespace_per_job
        helper_image_autoset_arch_and_os poll_interval poll_timeout cleanup_resources_timeout print_pod_warning_events
        wait_for_services_timeout services_environment_exclude`,
      );
    const unseen = Object.keys(tableShape).filter(
      (key) => !here.has(key) && !chosen.test(key) && !elsewhere.includes(key),
    );
    expect(unseen).toEqual([]);
  });
});
