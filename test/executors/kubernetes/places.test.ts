import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { makePlaces } from "../../../executors/kubernetes/job/containers/containers.ts";
import type { JobContainer } from "../../../executors/kubernetes/job/containers/job-container.ts";
import type { Places } from "../../../executors/kubernetes/pod/places.ts";
import { probeTools } from "../../../executors/remote/index.ts";
import { never } from "../../../src/time.ts";
import { Sink } from "../../support/executor-kit.ts";
import { localCommands } from "../remote/local.ts";

/** Programs of this machine as those of a container whose user is this one. */
async function container(name: string, uid: number): Promise<JobContainer> {
  const commands = localCommands(["sh"], { PATH: process.env.PATH ?? "" });
  const tools = { ...(await probeTools(commands, never)), uid };
  return {
    name,
    image: "image",
    tools,
    known: { image: "image", memoryLimit: "", tools, hasHome: true, hasEntrypoint: false },
    commands,
    openPty: () => Promise.reject(new Error("there is no terminal")),
    memoryLimit: "",
    lost: () => Promise.resolve(null),
    whenLost: () => Promise.reject(new Error("it is not lost")),
  };
}

function placesIn(dir: string, chosen: Places["chosen"]): Places {
  const buildsDir = join(dir, "builds");
  mkdirSync(buildsDir);
  const own = { tmpDir: join(dir, "tmp"), scriptsDir: join(dir, "scripts") };
  return { buildsDir, root: join(buildsDir, "app"), ...own, shared: chosen === "among-others", chosen };
}

test.each([
  [1000, "among-others", false],
  // Its image has no `id`.
  [-1, "among-others", false],
  [0, "among-others", true],
  [-1, "apart", true],
] as const)("where the helper is root and the job is %i, a directory chosen %s: %j", async (uid, chosen, taken) => {
  const dir = mkdtempSync(join(tmpdir(), "alloy-pod-"));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  const places = placesIn(dir, chosen);
  const containers = { build: await container("build", uid), helper: await container("helper", 0) };
  const making = makePlaces(containers, places, new Sink(), never);
  if (taken) await making;
  else await expect(making).rejects.toThrow(/GIT_CLONE_PATH is .*\/app", which may be another's, .*run_as_user/);
  expect(existsSync(places.root)).toBe(taken);
});
