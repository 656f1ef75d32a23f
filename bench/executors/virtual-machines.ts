import { type Hypervisor, machinesMissing, openMachines } from "../../test/support/machines/machines.ts";
import { loginUser, startSshd } from "../../test/support/sshd.ts";
import { type Figure, medianMs, type SceneOptions, withScene } from "../scene.ts";

const ROUNDS = 20;

/** What the executor for virtual machines adds to a job over SSH, with a stand-in whose guests start in a moment. */
export async function virtualMachineJobs(): Promise<readonly Figure[]> {
  const missing = machinesMissing();
  if (missing !== null) throw new Error(`no guests can be started here: ${missing}`);
  const measure = async (options: Pick<SceneOptions, "executor" | "entry" | "env">): Promise<number> =>
    await withScene({ dialect: "gitlab", ...options }, (scene) => medianMs(scene, ROUNDS));
  const sshd = await startSshd();
  let ssh: number;
  try {
    const { name } = loginUser(sshd);
    const entry = `[runners.ssh]\nhost = "${sshd.host}"\nport = ${sshd.port}\nuser = "${name}"\nidentity_file = "${sshd.keyFile}"\nknown_hosts_file = "${sshd.knownHostsFile}"`;
    ssh = await measure({ executor: "ssh", entry });
  } finally {
    await sshd.close();
  }
  const figures: Figure[] = [];
  for (const [executor, version] of [
    ["virtualbox", "7.1.4r165100"],
    ["parallels", "19.1.0"],
  ] as const satisfies readonly (readonly [Hypervisor, string])[]) {
    const machines = openMachines(executor, version);
    try {
      const entry = `[runners.${executor}]\nbase_name = '${machines.base.name}'\n[runners.ssh]\nuser = "root"\nidentity_file = "${machines.keyFile}"`;
      const value = (await measure({ executor, entry, env: machines.env })) - ssh;
      figures.push({
        name: `${executor} job over an ssh job's, median (stand-in)`,
        value,
        unit: "ms",
        target: 300,
        bound: "at most",
      });
    } finally {
      machines.close();
    }
  }
  return figures;
}
