import { describe, expect, test } from "vitest";
import { entrypointVariables, serviceVariables, withheldBy } from "../../executors/images/service-variables.ts";
import type { Job, Variable } from "../../src/job/job.ts";
import { preparedVariables, setUp } from "../../src/job/plan/set-up.ts";
import { sampleJob } from "../support/job.ts";

const place = { root: "/builds/g/p", tmpDir: "/tmp/job", buildsDir: "/builds", projectSlot: 0 };
const variable = (key: string, value: string, more: Partial<Variable> = {}): Variable => ({
  key,
  value,
  public: true,
  masked: false,
  file: false,
  raw: false,
  ...more,
});
const secret = { public: false, masked: true };

for (const dialect of ["gitlab", "alloy"] as const satisfies readonly Job["dialect"][]) {
  describe(`what is beside the scripts of a job of ${dialect}`, () => {
    type Environment = readonly { readonly key: string; readonly value: string }[];
    const sources = (variables: readonly Variable[], environment: Environment = []) => ({
      job: sampleJob({ dialect, variables }),
      runner: { environment, shortToken: "", debugTraceDisabled: false, featureFlags: {} },
      identity: { version: "1", revision: "r", architecture: "linux/amd64" },
      executor: { features: { variables: true, image: true, services: true, shared: false } },
      concurrentId: 0,
    });
    const prepared = (variables: readonly Variable[], environment: Environment = []) =>
      preparedVariables(sources(variables, environment), place);
    const found = (env: readonly string[], name: string): string | undefined =>
      env.find((entry) => entry.startsWith(`${name}=`))?.slice(name.length + 1);

    test("a service sees what is public, and of secrets what its own variables name", () => {
      const job = [variable("P", "1"), variable("S", "hid", secret)];
      const own = [variable("A", "$P"), variable("B", "$S"), variable("C", "$S", { raw: true })];
      const env = serviceVariables(prepared(job), own);
      expect(["P", "S", "A", "B", "C"].map((name) => found(env, name))).toEqual(["1", undefined, "1", "hid", "$S"]);
      expect(found(env, "CI_PROJECT_DIR")).toBe("/builds/g/p");
    });

    test("a helper image is named over what the operator and the runner say, and nothing of the job's", () => {
      const job = [variable("CI_RUNNER_VERSION", "9"), variable("CI_RUNNER_REVISION", "x"), variable("MINE", "m")];
      const { variables } = setUp(sources(job, [{ key: "SITE", value: "a.example.com" }]), null);
      const text = "$SITE/git:v$CI_RUNNER_VERSION-${CI_RUNNER_REVISION}-$CI_RUNNER_EXECUTABLE_ARCH$MINE";
      expect(variables.expandSettled(text)).toBe("a.example.com/git:v1-r-linux/amd64");
    });

    test("no chain of references brings a secret to a service or an ENTRYPOINT", () => {
      const job = [
        variable("DB_PASS", "tell-nobody", secret),
        variable("DB_URL", "db://$DB_PASS", secret),
        variable("CONN", "$DB_URL"),
        variable("CERT", "tell-nobody", { file: true }),
      ];
      const variables = prepared(job);
      expect(serviceVariables(variables, []).join("\n")).not.toContain("tell-nobody");
      expect(entrypointVariables(variables, "public").join("\n")).not.toContain("tell-nobody");
      const all = entrypointVariables(variables, "all");
      expect([found(all, "DB_PASS"), found(all, "CERT")]).toEqual(["tell-nobody", "/tmp/job/CERT"]);
      expect(entrypointVariables(variables, "none")).toEqual([]);
    });

    test("what the entry sets reaches services, but for what sounds like a password or is excluded", () => {
      const environment = [
        { key: "DOCKER_DRIVER", value: "overlay2" },
        { key: "DOCKER_AUTH_CONFIG", value: "{}" },
        { key: "deploy_token", value: "t" },
        { key: "SIGNING_KEY", value: "k" },
      ];
      const names = ["DOCKER_DRIVER", "DOCKER_AUTH_CONFIG", "deploy_token", "SIGNING_KEY"];
      const seen = (patterns?: readonly string[]) => {
        const env = serviceVariables(prepared([], environment), [], withheldBy(patterns));
        return names.filter((name) => found(env, name) !== undefined);
      };
      expect(seen()).toEqual(["DOCKER_DRIVER"]);
      expect(seen(["DOCKER_*"])).toEqual(["deploy_token", "SIGNING_KEY"]);
      expect(seen(["*TOKEN", "[", "SIGNING_???"])).toEqual(["DOCKER_DRIVER", "DOCKER_AUTH_CONFIG"]);
      expect(seen([])).toEqual(names);
    });
  });
}
