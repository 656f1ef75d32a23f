import { randomBytes } from "node:crypto";
import { describe, expect, onTestFinished, test } from "vitest";
import { abandonedJobs, cleanUpJob } from "../../../executors/docker/clean-up/clean-up.ts";
import { createSweeper } from "../../../executors/docker/clean-up/sweep.ts";
import { containerName, LABELS } from "../../../executors/docker/engine/labels.ts";
import { createSlots } from "../../../executors/docker/job/slots.ts";
import { never } from "../../../src/time.ts";
import { imageName, noEngine, testEngine } from "../../support/docker.ts";
import { useEngine } from "../docker-stand.ts";

const found = await testEngine("docker");

describe("builds directories at an engine", () => {
  if (found === null) {
    test.skip(noEngine("docker"), () => {});
    return;
  }
  const { docker } = found;
  const { owner, log, engine } = useEngine(found);

  test("belong to one job at a time, however often they are given back", async () => {
    const slots = createSlots(owner);
    const first = await slots.take(engine(), "r", "1", never);
    first[Symbol.dispose]();
    const second = await slots.take(engine(), "r", "1", never);
    first[Symbol.dispose]();
    const third = await slots.take(engine(), "r", "1", never);
    expect([first.number, second.number, third.number]).toEqual([0, 0, 1]);
  });

  test("are given back by the sweeper only once nothing of the job is there any more", async () => {
    const jobKey = `k-${randomBytes(6).toString("hex")}`;
    const left = await docker.createContainer({
      name: containerName("runner-r-project-1-concurrent-0", jobKey, "build"),
      Image: imageName("sh"),
      Cmd: ["sleep", "600"],
      Labels: { [LABELS.jobKey]: jobKey, [LABELS.role]: "build" },
      // The containers have no network, because the bridge that all engines share comes and goes with other tests'
      // engines.
      HostConfig: { NetworkMode: "none" },
    });
    onTestFinished(async () => void (await left.remove({ force: true }).catch(() => {})));
    await left.start();
    const sweeper = createSweeper(owner, log, () => false, { firstMs: 60_000, everyMs: 60_000, againMs: [10] });
    onTestFinished(async () => await sweeper.close());
    const there = await new Promise<number>((resolve) => {
      sweeper.suspect(engine(), jobKey, () => {
        const filters = { label: [`${LABELS.jobKey}=${jobKey}`] };
        void docker.listContainers({ all: true, filters }).then((list) => resolve(list.length));
      });
    });
    expect(there).toBe(0);
  }, 60_000);

  test("are not taken, nor anything removed, because an image brings our labels", async () => {
    await found.images("hostile");
    const jobKey = `k-${randomBytes(6).toString("hex")}`;
    const stranger = await docker.createContainer({
      Image: imageName("hostile"),
      Cmd: ["sleep", "600"],
      // Somebody's `docker run` of an image with these labels makes such a container.
      Labels: { [LABELS.jobKey]: jobKey, [LABELS.installation]: owner.installation, [LABELS.process]: "0-0" },
      HostConfig: { NetworkMode: "none" },
    });
    onTestFinished(async () => void (await stranger.remove({ force: true })));
    await stranger.start();
    expect((await createSlots(owner).take(engine(), "r", "1", never)).number).toBe(0);
    expect(await abandonedJobs(engine(), owner, never)).toEqual([]);
    await cleanUpJob(engine(), jobKey, {}, never);
    expect((await stranger.inspect()).State.Running).toBe(true);
  }, 60_000);
});
