import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { statusSchema } from "../../src/control/protocol.ts";
import type { LocalJob } from "../../src/local/coordinator/coordinator.ts";
import { complaintsOf, noBrowser, openBrowser } from "../support/browser.ts";
import { openSite, type Site } from "../support/site.ts";

const SECRET = "hunter2-hunter2-hunter2";
const PASSWORD = "a password of the page";
const web = (lines = ""): string => `concurrent = 60\n[web]\nlisten_address = "127.0.0.1:0"\n${lines}`;

let site: Site;
beforeEach(async () => {
  site = await openSite({ dialect: "gitlab", global: web() });
});
afterEach(async () => await site.close());

const urls = (): string[] =>
  [...site.runner.stderr().matchAll(/serving the live page.* url=(\S+)/g)].map(([, url = ""]) => url);
const urlOf = async (which: number): Promise<string> => {
  await expect.poll(() => urls()[which], { timeout: 20_000 }).toBeDefined();
  return urls()[which] ?? "";
};

/** A job that prints its lines, and goes on once the file that is its gate exists. */
function gated(name: string): { job: LocalJob; open: () => Promise<void> } {
  const gate = join(site.dir, `gate-${name}`);
  const job = site.coordinator.enqueue({
    name,
    runnerToken: site.tokens[0] ?? "",
    variables: [{ key: "SECRET", value: SECRET, masked: true }],
    script: [
      `echo "begun with $SECRET"; echo "half of it hunter2-"; while [ ! -e ${gate} ]; do sleep 0.5; done; echo finished`,
    ],
  });
  return { job, open: () => writeFile(gate, "") };
}

test.skipIf(noBrowser !== undefined)("shows a job from its arrival to its end, and no secret of it", async () => {
  const url = await urlOf(0);
  const browser = await openBrowser();
  const page = await browser.newPage();
  const complaints = complaintsOf(page);
  const told: string[] = [];
  page.on(
    "response",
    (response) =>
      void response.text().then(
        (text) => told.push(text),
        () => {},
      ),
  );
  const stream = new AbortController();
  const feed = await fetch(`${url}api/events`, { signal: stream.signal });
  const reading = (async () => {
    for await (const chunk of feed.body ?? []) told.push(Buffer.from(chunk).toString());
  })().catch(() => {});
  await page.goto(url);
  const { job, open } = gated("build");
  await page.getByRole("link", { name: /build$/ }).click();
  await page.getByText("begun with [MASKED]").waitFor();
  const trace = await fetch(`${url}api/jobs/${job.id}/trace`);
  told.push(await trace.text());
  await open();
  await page.getByText("finished", { exact: true }).first().waitFor();
  await page.getByText("success", { exact: true }).waitFor();
  await page.getByRole("link", { name: "All jobs" }).click();
  await page.getByRole("cell", { name: "success" }).waitFor();
  told.push(await page.content(), await (await fetch(`${url}api/status`)).text());
  stream.abort();
  await reading;
  await browser.close();
  const all = told.join("\n");
  expect(all).toContain("begun with [MASKED]");
  const [runnerToken = ""] = site.tokens;
  for (const secret of [SECRET, runnerToken, job.token]) {
    expect(secret.length).toBeGreaterThan(8);
    expect(all).not.toContain(secret);
  }
  expect(complaints).toEqual([]);
});

test("comes, moves and goes with the configuration, and with it its password", async () => {
  const first = await urlOf(0);
  expect((await fetch(`${first}api/status`)).status).toBe(200);
  expect((await fetch(`${first}api/drain`, { method: "POST" })).status).toBe(403);
  await site.configure({ global: web(`password = "${PASSWORD}"`) });
  const second = await urlOf(1);
  await expect(fetch(first)).rejects.toThrow();
  expect((await fetch(`${second}api/status`)).status).toBe(401);
  const authorization = `Basic ${btoa(`:${PASSWORD}`)}`;
  const paused = await fetch(`${second}api/pause?runner=runner-0`, { method: "POST", headers: { authorization } });
  expect(await paused.json()).toMatchObject({ runners: [{ name: "runner-0" }] });
  await site.configure({ global: "concurrent = 60" });
  await expect
    .poll(
      () =>
        fetch(second).then(
          () => "there",
          () => "gone",
        ),
      { timeout: 20_000 },
    )
    .toBe("gone");
  expect(site.runner.stderr()).not.toContain(PASSWORD);
});

test("costs next to nothing while nobody looks", async () => {
  await urlOf(0);
  const { pid } = site.runner.child;
  const ticks = async (): Promise<number> => {
    const fields = (await readFile(`/proc/${pid}/stat`, "latin1")).replace(/^.*\) /, "").split(" ");
    return Number(fields[11]) + Number(fields[12]);
  };
  const jobs = Array.from({ length: 50 }, (_, index) => gated(String(index)));
  await expect
    .poll(async () => statusSchema.parse(await (await fetch(`${await urlOf(0)}api/status`)).json()).jobs.length, {
      timeout: 60_000,
    })
    .toBe(50);
  const before = await ticks();
  const began = performance.now();
  // A sample is taken meanwhile.
  await expect.poll(() => performance.now() - began, { timeout: 15_000, interval: 500 }).toBeGreaterThan(11_000);
  const share = (await ticks()) - before;
  await Promise.all(jobs.map((job) => job.open()));
  // Ticks are 10 ms. Fifty quiet jobs, their polling and the page together.
  expect(share / 1100).toBeLessThan(0.1);
}, 120_000);
