import { describe, test } from "vitest";
import { runnerId } from "../../src/config/identity.ts";
import type { LocalJob } from "../../src/local/coordinator/jobs/job.ts";
import { adoptionContract } from "../contract/adoption.ts";
import { imageName, noEngine, testEngine } from "../support/docker.ts";
import type { Site } from "../support/site.ts";

const engine = await testEngine("docker");

describe("jobs in containers whose runner goes away", () => {
  if (engine === null) {
    test.skip(noEngine("docker"), () => {});
    return;
  }
  const { docker, host } = engine;

  const labelled = ({ tokens }: Site, ...more: string[]) => ({
    label: [`com.gitlab.gitlab-runner.runner.id=${runnerId(tokens[0] ?? "")}`, ...more],
  });
  const buildOf = async ({ id }: LocalJob, site: Site) => {
    const filters = labelled(site, `com.gitlab.gitlab-runner.job.id=${id}`, "alloy-runner.role=build");
    const [found] = await docker.listContainers({ filters });
    if (found === undefined) throw new Error(`job ${id} has no build container`);
    return docker.getContainer(found.Id);
  };

  adoptionContract({
    open: async ({ upstream, gates }) => {
      await engine.images("git", "helper", "service", "user");
      return {
        executor: "docker",
        entry: `[runners.docker]
host = "${host}"
image = "${imageName("git")}"
helper_image = "${imageName("helper")}"
pull_policy = "never"
volumes = ["${upstream}:/upstream:ro", "${gates}:/gates"]
`,
      };
    },
    leftovers: async (site) => {
      const filters = labelled(site, "alloy-runner.job-key");
      const [containers, volumes] = await Promise.all([
        docker.listContainers({ all: true, filters }),
        docker.listVolumes({ filters }),
      ]);
      return [...containers.map((one) => one.Names.join()), ...volumes.Volumes.map((one) => one.Name)];
    },
    remove: async (job, site) => await (await buildOf(job, site)).remove({ force: true }),
    end: async (job, site) => await (await buildOf(job, site)).kill(),
    removed: /Job failed.*Somebody has removed the build container/,
  });
});
