import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { openSite } from "../support/site.ts";

const NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"] as const;

function mayUnshare(): boolean {
  try {
    execFileSync(NAMESPACE[0], [...NAMESPACE.slice(1), "true"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/** The number, outside of the namespace, of the process that is the first one in it. */
function firstProcess(unshare: number): number {
  return Number(readFileSync(`/proc/${unshare}/task/${unshare}/children`, "utf8").trim());
}

test("as the first process of a container it reaps what jobs leave, passes signals on and keeps its status", async ({
  skip,
}) => {
  if (!mayUnshare()) skip("only an account that may make namespaces can be the first process");
  const site = await openSite({ dialect: "gitlab", global: "concurrent = 2", run: { under: NAMESPACE } });
  try {
    const leave = site.coordinator.enqueue({
      script: ["for i in 1 2 3 4 5; do (sh -c 'setsid sleep 0.1 &' &); done; sleep 0.5"],
    });
    await leave.reported();
    const look = site.coordinator.enqueue({ script: ["ps -eo stat=,args= | grep '^Z' || echo no zombies"] });
    await look.reported();
    expect(look.trace).toContain("no zombies");
    const gate = join(site.dir, "gate");
    const last = site.coordinator.enqueue({
      script: [`echo ready; while [ ! -e ${gate} ]; do sleep 0.05; done; echo finished`],
    });
    await last.traceContains("ready");
    process.kill(firstProcess(site.runner.pid), "SIGQUIT");
    await site.runner.seen(/asking for no more jobs/);
    writeFileSync(gate, "");
    expect(await site.runner.exit).toEqual({ code: 0, signal: null });
    expect(last.trace).toContain("finished");
  } finally {
    await site.close();
  }
});
