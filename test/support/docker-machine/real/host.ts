import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { builtBy } from "../../built.ts";

/** A host that docker-machine's driver `generic` can set up, with a dockerd of its own. */
export interface MachineHost {
  readonly address: string;
  /** This machine's address on the link to it. */
  readonly gateway: string;
  readonly dir: string;
  /** Private key that opens its root. */
  readonly keyFile: string;
  /** Ends it, and all that runs there. */
  close(): Promise<void>;
}

const PROGRAMS = ["/usr/sbin/dockerd", "/usr/sbin/sshd", "/usr/bin/ssh", "/usr/bin/unshare", "/usr/bin/nsenter"];

/** Why there can be no such host here; `null`: there can. With CI=true a program that is missing is a failure. */
export function hostMissing(): string | null {
  if (process.platform !== "linux" || process.geteuid?.() !== 0) return "needs root on Linux";
  const missing = PROGRAMS.find((program) => !existsSync(program));
  if (missing === undefined) return null;
  if (process.env.CI === "true") throw new Error(`no ${missing}: run scripts/setup-tests.sh`);
  return `needs ${missing}`;
}

/** Folder of the real docker-machine. It is built where it is missing, which takes 40 s. */
export async function buildDockerMachine(): Promise<string> {
  return await builtBy(join(import.meta.dirname, "build.sh"));
}

export async function openMachineHost(): Promise<MachineHost> {
  const dir = await mkdtemp(join(tmpdir(), "alloy-machine-host-"));
  const keyFile = join(dir, "key");
  execFileSync("ssh-keygen", ["-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "", "-C", "", "-f", keyFile]);
  const child = spawn("bash", [join(import.meta.dirname, "host.sh"), dir], { stdio: ["ignore", "pipe", "pipe"] });
  const exited = once(child, "exit");
  let output = "";
  const listening = new Promise<void>((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        output = (output + text).slice(-10_000);
        if (output.includes("Server listening")) resolve();
      });
    }
    child.once("exit", () => reject(new Error(`the host does not start: ${output}`)));
  });
  const close = async (): Promise<void> => {
    child.kill("SIGTERM");
    await exited;
    await rm(dir, { recursive: true, force: true });
  };
  try {
    await listening;
  } catch (error) {
    await close();
    throw error;
  }
  const address = readFileSync(join(dir, "address"), "utf8").trim();
  return { address, gateway: address.replace(/\d+$/, (last) => String(Number(last) - 1)), dir, keyFile, close };
}
