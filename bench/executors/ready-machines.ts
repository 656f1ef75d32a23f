import { userInfo } from "node:os";
import type { LocalCoordinator } from "../../src/local/coordinator/coordinator.ts";
import { imageName, testEngine } from "../../test/support/docker.ts";
import { openMachineStand } from "../../test/support/docker-machine/stand.ts";
import { startSshd } from "../../test/support/sshd.ts";
import { type Figure, median, type SceneOptions, withScene } from "../scene.ts";

const ROUNDS = 9;

/** What a machine that is ready adds to a docker job: jobs of `true` at one engine, directly, over TLS and over SSH, in turns. */
export async function readyMachines(): Promise<readonly Figure[]> {
  const engine = await testEngine("docker");
  if (engine === null) throw new Error("no container engine answers");
  await engine.images("git");
  const docker = `[runners.docker]
host = "${engine.host}"
image = "${imageName("git")}"
helper_image = "${imageName("git")}"
pull_policy = "never"
`;
  const machine = `limit = 1
${docker}[runners.machine]
IdleTime = 600
MachineDriver = "none"
MachineName = "auto-%s"
`;
  await using stand = await openMachineStand({ engine: engine.host.slice("unix://".length), addresses: 3 });
  const sshd = await startSshd();
  try {
    const autoscaler = `${docker}[runners.autoscaler]
plugin = "static"
[runners.autoscaler.plugin_config.instances.one]
internal_addr = "127.0.0.1:${sshd.port}"
username = "${userInfo().username}"
key_path = "${sshd.keyFile}"
[[runners.autoscaler.policy]]
idle_time = "10m"
`;
    const [direct, overTls, overSsh] = await inTurns([
      { dialect: "gitlab", executor: "docker", entry: docker },
      { dialect: "gitlab", executor: "docker+machine", entry: machine, env: stand.env },
      { dialect: "gitlab", executor: "docker-autoscaler", entry: autoscaler },
    ]);
    const added = (seconds = Number.NaN): number => (seconds - (direct ?? Number.NaN)) * 1000;
    return [
      {
        name: "ready machine over a docker job, median",
        value: added(overTls),
        unit: "ms",
        target: 150,
        bound: "at most",
      },
      {
        name: "ready instance over a docker job, median",
        value: added(overSsh),
        unit: "ms",
        target: 150,
        bound: "at most",
      },
    ];
  } finally {
    await sshd.close();
  }
}

/** Medians of seconds from a job's pick-up to its report, in each scene. */
async function inTurns(scenes: readonly SceneOptions[], open: readonly LocalCoordinator[] = []): Promise<number[]> {
  const [next, ...rest] = scenes;
  if (next !== undefined) return await withScene(next, ({ coordinator }) => inTurns(rest, [...open, coordinator]));
  const times = open.map((): number[] => []);
  for (let round = -1; round < ROUNDS; round++) {
    for (const [index, coordinator] of open.entries()) {
      const job = coordinator.enqueue({ script: ["true"] });
      const update = await job.reported({ timeoutMs: 120_000 });
      if (update.state !== "success") throw new Error(`the job failed:\n${job.trace}`);
      // The first one makes the machine.
      if (round >= 0) times[index]?.push((update.at - (job.pickedUpAt ?? 0)) / 1000);
    }
  }
  return times.map(median);
}
