import { spawn } from "node:child_process";
import { once } from "node:events";
import { expect, test, vi } from "vitest";
import { endOrphans } from "../../executors/virtual-machine/orphans.ts";
import { never } from "../../src/time.ts";

test.skipIf(process.platform !== "linux")(
  "a dead runner's call is found and ended on Linux, also where there is no ps; those for other machines go on",
  async () => {
    const start = (name: string) =>
      spawn("/bin/sh", ["-c", `"$@"; exit`, "alloy-runner", "/bin/sh", "-c", "sleep 300", name], { detached: true });
    const [own, other] = [start("mine-0a1b"), start("other-2c3d")];
    await Promise.all([once(own, "spawn"), once(other, "spawn")]);
    vi.stubEnv("PATH", "/nowhere");
    try {
      const ended = once(own, "exit");
      const machine = { name: "mine-0a1b", id: null, folder: null };
      expect(await endOrphans({ program: "/bin/sh" }, machine, never)).toBe(1);
      await ended;
      expect([other.exitCode, other.signalCode]).toEqual([null, null]);
    } finally {
      vi.unstubAllEnvs();
      for (const { pid = 0 } of [own, other]) {
        try {
          process.kill(-pid, "SIGKILL");
        } catch {
          // It has ended.
        }
      }
    }
  },
);
