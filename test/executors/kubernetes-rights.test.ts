import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { parse, parseAllDocuments } from "yaml";
import { z } from "zod";
import type { Executor } from "../../src/executor/executor.ts";
import type { Log } from "../../src/log.ts";
import { never } from "../../src/time.ts";
import { noCluster, useCluster } from "../support/cluster/cluster.ts";
import { silentLog } from "../support/executor-deps.ts";
import { runOps, Sink, source } from "../support/executor-kit.ts";
import { imageName } from "../support/images.ts";
import { imageNamed, plainVariable, requestOf, serviceNamed } from "./kubernetes-request.ts";
import { type KubernetesStand, openStand } from "./kubernetes-stand.ts";

/** The documented and packaged role is enough for jobs, and each of its rights is needed. */

const cluster = await useCluster();

const top = join(import.meta.dirname, "../..");
const ruleSchema = z.object({
  apiGroups: z.array(z.string()),
  resources: z.array(z.string()),
  verbs: z.array(z.string()),
});
const roleSchema = z.object({ kind: z.literal("Role"), rules: z.array(ruleSchema) });

function packagedRole(): z.output<typeof roleSchema>["rules"] {
  const documents = parseAllDocuments(readFileSync(join(top, "packaging/kubernetes/jobs.yaml"), "utf8"));
  const roles = documents.flatMap((each) => {
    const role = roleSchema.safeParse(each.toJSON());
    return role.success ? [role.data.rules] : [];
  });
  return roles.flat();
}

const rights = packagedRole().flatMap(({ apiGroups, resources, verbs }) =>
  resources.flatMap((resource) => verbs.map((verb) => ({ verb, resource, apiGroups }))),
);
type Right = (typeof rights)[number];
const named = ({ verb, resource }: Right): string => `${verb} ${resource}`;

/** Rights that jobs can do without, with what happens then. */
const SPARE: Readonly<Record<string, string>> = {
  "list pods": "each pod is asked for by itself",
  "watch pods": "each pod is asked for by itself",
  "get pods/log": "a service's complaint is not shown",
  "list events": "warnings are not shown",
  "create secrets": "only jobs with logins fail",
  "update secrets": "the secret is removed by the runner alone",
  "delete secrets": "the secret goes with its pod",
  "create leases": "what a lost runner left is not looked for",
  "get leases": "what a lost runner left is not looked for",
  "update leases": "what a lost runner left is not looked for",
  "delete leases": "the lease stays",
};

test("the documentation has the role that is packaged", () => {
  const text = readFileSync(join(top, "docs/kubernetes.md"), "utf8");
  const [, yaml = ""] = /```yaml\n(apiVersion: rbac[\s\S]*?kind: Role\n[\s\S]*?)```/.exec(text) ?? [];
  expect(roleSchema.parse(parse(yaml)).rules).toEqual(packagedRole());
});

describe("rights of the runner's login", () => {
  if (cluster === null) {
    test.skip(`needs a cluster: ${noCluster}`, () => {});
    return;
  }
  let stand: KubernetesStand;
  let registry: Awaited<ReturnType<typeof cluster.registry>>;
  let locked: string;
  const kept = mkdtempSync(join(tmpdir(), "alloy-rights-"));
  afterAll(() => rmSync(kept, { recursive: true, force: true }));
  beforeAll(async () => {
    await cluster.images("git", "sh", "broken");
    stand = await openStand(cluster);
    registry = await cluster.registry();
    locked = await registry.push(imageName("git"), "locked:1");
    await cluster.kubectl(["create", "-f", "-"], JSON.stringify({ apiVersion: "v1", kind: "List", items: logins() }));
  }, 300_000);

  const nameOf = (without: Right | null): string =>
    without === null ? "all" : `no-${named(without).replace(/[ /]/g, "-")}`;

  /** A service account for the whole role, and one for each right that it lacks. */
  function logins(): object[] {
    return [null, ...rights].flatMap((without) => {
      const name = nameOf(without);
      const metadata = { name, namespace: stand.namespace };
      const rules = rights
        .filter((right) => right !== without)
        .map(({ verb, resource, apiGroups }) => ({ apiGroups, resources: [resource], verbs: [verb] }));
      return [
        { apiVersion: "v1", kind: "ServiceAccount", metadata },
        { apiVersion: "rbac.authorization.k8s.io/v1", kind: "Role", metadata, rules },
        {
          apiVersion: "rbac.authorization.k8s.io/v1",
          kind: "RoleBinding",
          metadata,
          roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "Role", name },
          subjects: [{ kind: "ServiceAccount", name, namespace: stand.namespace }],
        },
      ];
    });
  }

  const tokenOf = async (without: Right | null): Promise<string> =>
    (await cluster.kubectl(["create", "token", nameOf(without), "-n", stand.namespace])).trim();
  const loginWith = (token: string) => ({
    host: cluster.server,
    ca_file: cluster.authority.certFile,
    bearer_token: token,
  });

  async function opened(without: Right | null, logged: string[] = []): Promise<Executor> {
    const log: Log = {
      ...silentLog,
      error: (text, fields = {}) => void logged.push(`${text} ${JSON.stringify(fields)}`),
      warn: (text, fields = {}) => void logged.push(`${text} ${JSON.stringify(fields)}`),
    };
    // What another one holds in the cluster must not stand for this one.
    const keepDir = mkdtempSync(join(kept, "runner-"));
    return stand.open({ log, keepDir }, { ...loginWith(await tokenOf(without)), poll_interval: 1 });
  }

  /** A job whose image needs a login, and which has a service that does not start. */
  const job = {
    image: imageNamed(""),
    services: [
      serviceNamed(imageName("broken"), {
        aliases: ["db"],
        variables: [plainVariable("HEALTHCHECK_TCP_PORT", "8080")],
      }),
    ],
  };

  async function ran(without: Right | null, withLogins = true, logged: string[] = []): Promise<string> {
    const notes = new Sink();
    const { address, username, password } = registry;
    const request = requestOf({
      ...job,
      image: imageNamed(withLogins ? locked : imageName("git")),
      credentials: withLogins ? [{ url: address, username, password }] : [],
    });
    const executor = await opened(without, logged);
    try {
      const reservation = await executor.reserve?.(never);
      expect(reservation).not.toBeNull();
      const environment = await executor.prepare(request, notes, never);
      try {
        expect((await runOps(environment, source("echo it ran"))).text).toContain("it ran\n");
      } finally {
        await environment.destroy(never);
      }
    } finally {
      await executor.close(never);
    }
    const selector = `alloy-runner.job-key=${request.jobKey}`;
    await vi.waitFor(
      async () => {
        const left = await cluster?.kubectl([
          "get",
          "pods,secrets",
          "-n",
          stand.namespace,
          "-l",
          selector,
          "-o",
          "name",
        ]);
        expect(left).toBe("");
      },
      { timeout: 30_000, interval: 300 },
    );
    return notes.text;
  }

  test("with all of them a job with logins and a service that complains runs, and nothing stays", {
    timeout: 120_000,
  }, async () => {
    expect(await ran(null)).toContain("cannot find my data");
  });

  test.each(rights.filter((right) => SPARE[named(right)] === undefined).map((right) => [named(right), right] as const))(
    "without %s no job is asked for, and log and trace name it and the rule that gives it",
    { timeout: 60_000 },
    async (name, right) => {
      const logged: string[] = [];
      const executor = await opened(right, logged);
      onTestFinished(() => executor.close(never));
      expect(await executor.reserve?.(never)).toBeNull();
      const rule = `{apiGroups: [\\"\\"], resources: [${right.resource}], verbs: [${right.verb}]}`;
      expect(logged).toEqual([expect.stringContaining(rule)]);
      expect(logged[0]).toContain(`may not ${name} in the namespace \\"${stand.namespace}\\"`);
      // The job is prepared without a reservation, as `exec` does it.
      await expect(executor.prepare(requestOf(job), new Sink(), never)).rejects.toThrow(`may not ${name} in`);
    },
  );

  test("a job's own token counts where the entry lets jobs bring one, and shows nowhere", {
    timeout: 60_000,
  }, async () => {
    const poor = rights.find((right) => named(right) === "create pods") ?? null;
    const [own, theirs] = await Promise.all([tokenOf(null), tokenOf(poor)]);
    const table = { ...loginWith(own), bearer_token_overwrite_allowed: true };
    const executor = stand.open({}, table);
    onTestFinished(() => executor.close(never));
    const hidden: string[] = [];
    const variable = {
      key: "KUBERNETES_BEARER_TOKEN",
      value: theirs,
      public: false,
      file: false,
      masked: true,
      raw: true,
    };
    const request = {
      ...requestOf({ ...job, variables: [variable] }),
      hide: (secrets: readonly string[]) => void hidden.push(...secrets),
    };
    const notes = new Sink();
    await expect(executor.prepare(request, notes, never)).rejects.toThrow("may not create pods in");
    expect(hidden).toEqual([theirs]);
    expect(notes.text).not.toContain(theirs);
  });

  test.concurrent.each(Object.entries(SPARE))("without %s jobs run: %s", { timeout: 120_000 }, async (name) => {
    const right = rights.find((each) => named(each) === name) ?? null;
    expect(right).not.toBeNull();
    const logged: string[] = [];
    const notes = await ran(right, name !== "create secrets", logged);
    expect(logged.some((text) => /is not looked for: the login may not hold leases/.test(text))).toBe(
      /^(?:create|get|update) leases$/.test(name),
    );
    expect(notes.includes("cannot find my data")).toBe(name !== "get pods/log");
    if (name !== "create secrets") return;
    await expect(ran(right)).rejects.toThrow(
      /may not create secrets .* give its role that right, or use image_pull_secrets/,
    );
  });
});
