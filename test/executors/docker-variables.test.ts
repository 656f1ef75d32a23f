import { describe, expect, onTestFinished, test } from "vitest";
import type { PrepareRequest } from "../../src/executor/prepare.ts";
import type { Job, Variable } from "../../src/job/job.ts";
import { preparedVariables, setUp } from "../../src/job/plan/set-up.ts";
import { never } from "../../src/time.ts";
import { imageName, noEngine, testEngine } from "../support/docker.ts";
import { Sink, sampleRequest } from "../support/executor-kit.ts";
import { imageOfJob as image, standOfSuite, type Table, TIMEOUT_MS } from "./docker-stand.ts";

const variable = (key: string, value: string, more: Partial<Variable> = {}): Variable => ({
  key,
  value,
  public: true,
  masked: false,
  file: false,
  raw: true,
  ...more,
});

/** What an operator lets others than scripts see of a job's variables, on either engine. */
for (const kind of ["docker", "podman"] as const) {
  const engine = await testEngine(kind);
  describe(`variables beside scripts on ${kind}`, () => {
    if (engine === null) {
      test.skip(noEngine(kind), () => {});
      return;
    }
    const { docker } = engine;
    const stand = standOfSuite(engine, ["git", "service"]);

    /** The job's notes, and the settings of its containers by their roles. */
    async function prepared(table: Table, parts: Partial<Job>, environment: PrepareRequest["environment"] = []) {
      const request = sampleRequest();
      const job = { ...request.job, ...parts };
      const sources = {
        job,
        runner: { environment, shortToken: "", debugTraceDisabled: false, featureFlags: {} },
        identity: { version: "1", revision: "r", architecture: "linux/amd64" },
        executor: { features: { variables: true, image: true, services: true, shared: false } },
        concurrentId: 0,
      };
      const { expand, expandSettled } = setUp(sources, null).variables;
      const openVariables: PrepareRequest["openVariables"] = (place) => preparedVariables(sources, place);
      const executor = stand().open(table, { killGraceMs: 300 });
      onTestFinished(() => executor.close(never));
      const notes = new Sink();
      const wanted = { ...request, job, environment, expand, expandSettled, openVariables };
      const place = await executor.prepare(wanted, notes, never);
      onTestFinished(() => place.destroy(never));
      const environmentOf = async (role: string): Promise<string[]> => {
        const label = [`alloy-runner.role=${role}`, `com.gitlab.gitlab-runner.runner.id=${stand().runner()}`];
        const [found] = await docker.listContainers({ filters: { label } });
        return (await docker.getContainer(found?.Id ?? "").inspect()).Config.Env;
      };
      return { notes: notes.text, place, environmentOf };
    }

    test(
      "an ENTRYPOINT sees what is public, or all, or nothing, and services what is not excluded, as the operator says",
      async () => {
        const say = 'printf "%s|" "$CI_PROJECT_DIR" "$PUB" "${HIDDEN-unset}" "${CERT-unset}" "$HOME"; echo; exec "$@"';
        const parts = {
          image: image("git", { entrypoint: ["sh", "-c", say, "-"] }),
          variables: [
            variable("PUB", "one\ntwo"),
            variable("HIDDEN", "hid den", { public: false, masked: true }),
            variable("CERT", "content", { public: false, file: true }),
            variable("HOME", "/nowhere"),
          ],
          services: [{ ...image("service"), name: imageName("service"), aliases: [], command: null, variables: [] }],
        };
        const environment = [
          { key: "DEPLOY_TOKEN", value: "tell-nobody" },
          { key: "http_proxy", value: "http://proxy" },
        ];
        const seen = async (table: Table) => {
          stand().newRunner();
          const { notes, place, environmentOf } = await prepared(table, parts, environment);
          const { root, tmpDir } = place.workspace;
          // The engine's own words to the container are no lines of a job's trace.
          expect(notes).not.toMatch(/not found|hijack/);
          const said = /^(.*\|.*\n?.*)\|[^|\n]+\|$/m.exec(notes)?.[1] ?? notes;
          const service = (await environmentOf("service")).filter((one) => /^(?:DEPLOY|http)/.test(one));
          return {
            said: said.replace(root, "ROOT").replace(tmpDir, "TMP"),
            env: JSON.stringify(await environmentOf("build")),
            service: service.sort(),
            kept: /Services do not get (\S+) of the runner's environment/.exec(notes)?.[1],
          };
        };
        const usual = await seen({});
        expect(usual).toMatchObject({
          said: "ROOT|one\ntwo|unset|unset",
          service: ["http_proxy=http://proxy"],
          kept: "DEPLOY_TOKEN",
        });
        expect(usual.env).not.toContain("hid den");
        const all = await seen({ entrypoint_variables: "all", services_environment_exclude: ["HTTP_*"] });
        expect(all).toMatchObject({
          said: "ROOT|one\ntwo|hid den|TMP/CERT",
          service: ["DEPLOY_TOKEN=tell-nobody"],
          kept: "http_proxy",
        });
        expect(all.env).not.toContain("content");
        expect(all.env).not.toContain("/nowhere");
        const none = await seen({ entrypoint_variables: "none", services_environment_exclude: [] });
        expect(none).toMatchObject({ said: "||unset|unset", kept: undefined });
        expect(none.service).toEqual(["DEPLOY_TOKEN=tell-nobody", "http_proxy=http://proxy"]);
        expect(none.env).not.toContain("PUB");
      },
      TIMEOUT_MS,
    );
  });
}
