import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { imageName, testEngine } from "../test/support/docker.ts";
import { loginUser, sshdMissing, startSshd } from "../test/support/sshd.ts";
import type { Figure, SceneOptions } from "./scene.ts";

const engineScript = join(import.meta.dirname, "../scripts/test-engine.sh");
const run = promisify(execFile);

/** Where the jobs run whose files are moved. */
export interface TransferPlace {
  readonly name: string;
  readonly scene: Pick<SceneOptions, "executor" | "entry">;
}

type Measure = (place: TransferPlace) => Promise<readonly Figure[]>;

/** Another account of this machine, by an sshd of its own. */
export async function overSsh(measure: Measure): Promise<readonly Figure[]> {
  const missing = sshdMissing();
  if (missing !== null) throw new Error(`ssh: ${missing}`);
  const sshd = await startSshd();
  try {
    const user = loginUser(sshd);
    const entry = `builds_dir = "${join(user.home, "builds")}"
[runners.ssh]
host = "${sshd.host}"
port = "${sshd.port}"
user = "${user.name}"
identity_file = "${sshd.keyFile}"
known_hosts_file = "${sshd.knownHostsFile}"
`;
    return await measure({ name: "ssh", scene: { executor: "ssh", entry } });
  } finally {
    await sshd.close();
  }
}

/** Containers that see `dir` and the network of this machine. An engine that does not run is started for it. */
export async function withContainers(dir: string, measure: Measure): Promise<readonly Figure[]> {
  const running = await testEngine("docker").catch(() => null);
  if (running === null) await run("bash", [engineScript, "start", "docker"]);
  try {
    const engine = running ?? (await testEngine("docker"));
    if (engine === null) throw new Error("no container engine answers");
    await engine.images("archivers");
    const image = imageName("archivers");
    const entry = `[runners.docker]
host = "${engine.host}"
image = "${image}"
helper_image = "${image}"
pull_policy = "never"
network_mode = "host"
volumes = ["${dir}:${dir}:ro"]
`;
    return await measure({ name: "docker", scene: { executor: "docker", entry } });
  } finally {
    if (running === null) await run("bash", [engineScript, "stop", "docker"]);
  }
}
