import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { z } from "zod";
import type { SessionWords } from "../../src/coordinator/contract.ts";
import type { LocalJob } from "../../src/local/coordinator/coordinator.ts";
import { freePort } from "../support/free-port.ts";
import { openSite, type Site } from "../support/site.ts";
import { atTerminal, connectTerminal } from "../support/terminal-client.ts";

const requestSchema = z.object({
  session: z.object({ url: z.string(), certificate: z.string(), authorization: z.string() }),
  info: z.object({ features: z.object({ session: z.literal(true), terminal: z.literal(true) }) }),
});

let site: Site;
afterEach(async () => await site.close());

/** A runner that serves terminals, for a GitLab. */
async function serving(sessionTimeout: number): Promise<void> {
  const port = await freePort();
  const table = `[session_server]\n  listen_address = "127.0.0.1:${port}"\n  session_timeout = ${sessionTimeout}`;
  site = await openSite({ dialect: "gitlab", record: true, global: `shutdown_timeout = 20\n${table}` });
}

interface Gated {
  readonly job: LocalJob;
  open(): void;
}

/** A job whose script waits for the person at its terminal. */
function gated(): Gated {
  const gate = join(site.dir, "gate");
  const job = site.coordinator.enqueue({
    name: "gated",
    runnerToken: site.tokens[0] ?? "",
    variables: [
      { key: "PLACE", value: "here", public: true },
      { key: "SECRET", value: "hunter2-hunter2-hunter2", masked: true },
    ],
    script: [`touch made-by-script; echo begun; while [ ! -e ${gate} ]; do sleep 0.05; done; echo finished`],
  });
  return { job, open: () => writeFileSync(gate, "") };
}

async function sessionOf(job: LocalJob): Promise<SessionWords> {
  await job.traceContains("begun");
  return requestSchema.parse(JSON.parse(job.handedOutTo?.body.toString() ?? "")).session;
}

test("a person works in a running job, and the job stays open until the person leaves", async () => {
  await serving(60);
  const { job, open } = gated();
  const session = await sessionOf(job);
  const client = await atTerminal(session, { protocols: ["base64.terminal.gitlab.com", "terminal.gitlab.com"] });
  expect(client.protocol).toBe("terminal.gitlab.com");
  client.type('ls; echo "<$PLACE|$SECRET|$CI_JOB_TOKEN|$CI_PROJECT_DIR>"\r');
  const [, dir = ""] = await client.shown(/made-by-script[^<]*<here\|\|\|([^>]+)>/);
  client.type("pwd; id -un; sleep 1000 & echo started\r");
  await client.shown(new RegExp(`${dir}\\r\\n`));
  await client.shown(/started/);
  open();
  await job.traceContains("A terminal is open: the job stays until it is closed, or for 1m");
  // The end of the script has not ended what was started here.
  client.type("jobs -r\r");
  await client.shown(/Running\s+sleep 1000/);
  client.type("exit\rexit\r");
  expect(await client.closed).toBe(1000);
  await job.reported();
  expect(job.status).toBe("success");
  const trace = job.trace;
  expect(trace).toMatch(
    /A terminal was opened in this job[\s\S]*finished[\s\S]*The terminal was closed after [\s\S]*Job succeeded/,
  );
  expect(trace).not.toContain("made-by-script\r");
  expect(await connectTerminal(session)).toBe(404);
  const log = site.runner.stderr();
  expect(log).toContain("somebody has opened a terminal in the job");
  for (const secret of [session.authorization, session.url]) expect(log + trace).not.toContain(secret);
  expect(log).toContain("serving terminals of jobs");
});

test("session_timeout ends the stay; a cancel ends it at once, and so does the runner's end", async () => {
  await serving(2);
  const first = gated();
  const client = await atTerminal(await sessionOf(first.job));
  first.open();
  await first.job.reported();
  expect(first.job.status).toBe("success");
  expect(await client.closed).toBe(1001);

  const second = site.coordinator.enqueue({
    name: "canceled",
    runnerToken: site.tokens[0] ?? "",
    script: ["echo begun; sleep 600"],
  });
  const canceled = await atTerminal(await sessionOf(second));
  second.cancel();
  expect(await canceled.closed).toBe(1001);

  const third = site.coordinator.enqueue({
    name: "ended",
    runnerToken: site.tokens[0] ?? "",
    script: ["echo begun; sleep 600"],
  });
  const ended = await atTerminal(await sessionOf(third));
  await site.runner.stop("SIGTERM");
  expect(await ended.closed).toBe(1001);
});
