import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import type { Browser, BrowserContextOptions, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { complaintsOf, noBrowser, openBrowser } from "../support/browser.ts";
import { openStand, type Stand } from "./stand.ts";

if (noBrowser !== undefined && process.env.CI) throw new Error(noBrowser);

const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const ESC = "\x1b";

/** The machine may be busy. */
const eventually = <T>(look: () => T | Promise<T>) => expect.poll(look, { timeout: 15_000 });

let browser: Browser;
let stand: Stand;
const complaints: string[] = [];

beforeAll(async () => {
  if (noBrowser === undefined) browser = await openBrowser();
});
afterAll(async () => await browser?.close());
afterEach(async () => {
  for (const context of browser.contexts()) await context.close();
  await stand.close();
  expect(complaints.splice(0)).toEqual([]);
});

async function look(path = "", options: BrowserContextOptions = {}): Promise<Page> {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  const mine = complaintsOf(page);
  page.on("close", () => complaints.push(...mine));
  await page.goto(stand.url + path);
  return page;
}

/** What axe has against the page as it is. The page's own policy would refuse the script, so it comes by the debugger. */
async function barriers(page: Page): Promise<string[]> {
  await page.evaluate(axe);
  return await page.evaluate(async () => {
    // biome-ignore lint/security/noGlobalEval: the name is one of the page's, where axe has just come
    const { violations } = await globalThis.eval("axe").run();
    return violations.flatMap(({ id, nodes }: { id: string; nodes: { html: string; failureSummary: string }[] }) =>
      nodes.map(({ html, failureSummary }) => `${id}: ${html} ${failureSummary}`),
    );
  });
}

/** Entries in every state, and jobs in progress and ended. */
async function populate(): Promise<void> {
  stand.addRunner("build-07", { at: "slot", held: "limit", most: 4 });
  stand.addRunner(`runner-${"with-a-long-name-".repeat(6)}`, { at: "idle", answeredAt: Date.now() });
  stand.figures.set("paused", [
    { about: "Machines by what they do.", name: "idle", value: 2 },
    { about: "Machines by what they do.", name: "creating", value: 0 },
    { about: "Machines by what they do.", name: "used", value: 1 },
  ]);
  stand.addRunner("paused", { at: "paused" });
  stand.addRunner("disk", { at: "disk", freeBytes: 1.2e9, minFreeBytes: 2e9 });
  stand.addRunner("away", { at: "backing off", until: Date.now() + 60_000, problem: "502 Bad Gateway" });
  stand.addRunner("broken", { at: "unusable", problem: "runners.url is missing" }, { id: "" });
  for (const outcome of [
    { result: "success" },
    { result: "failed", reason: "script_failure", exitCode: 2 },
    { result: "failed", reason: "runner_system_failure" },
    { result: "canceled" },
  ] as const) {
    const job = stand.addJob({ receivedAt: Date.now() - 65_000 });
    job.moved({ at: "running", stage: "get_sources" });
    job.moved({ at: "finished", outcome });
    job.end();
  }
  const job = stand.addJob({
    id: "77",
    title: `acme/${"long-group/".repeat(10)}widget: test [linux, node 24]`,
    queuedSeconds: 4,
  });
  job.moved({ at: "preparing", attempt: 1 });
  job.moved({ at: "running", stage: "build_script" });
  job.print(
    `section_start:100:prepare_executor\r${ESC}[0K${ESC}[36;1mPreparing${ESC}[0;m\nimage node:24\nsection_end:104:prepare_executor\r${ESC}[0K${ESC}[31mred${ESC}[0m ${ESC}[2mdim${ESC}[0m ${ESC}[7minverse${ESC}[0m ${ESC}[93;44mmixed${ESC}[0m\nlast line`,
  );
}

describe.skipIf(noBrowser !== undefined)("the page", () => {
  test("shows entries with why they are idle, jobs with what they do, and history", async () => {
    stand = await openStand();
    await populate();
    const page = await look();
    await page.getByText("limit of 4 reached").waitFor();
    for (const said of [
      "disk: 1.2 GB free, min_free_disk 2.0 GB",
      "cannot be used: runners.url is missing",
      "Machines by what they do: 2 idle, 1 used",
      "last line",
    ])
      await page.getByText(said).waitFor();
    for (const outcome of ["success", "failed, status 2", "failed: runner_system_failure", "canceled"])
      await page.getByRole("cell", { name: outcome, exact: true }).waitFor();
    await page.getByRole("img", { name: /^prepare_executor .*, build_script / }).waitFor();
    await page.getByRole("img", { name: /The last 4 jobs, 2 of them failed/ }).waitFor();
    await page.getByRole("img", { name: /^Free disk: now 48.2 GB/ }).waitFor();
    expect(await page.getByRole("button").count()).toBe(0);
    const job = stand.addJob({ title: "acme/widget: another" });
    const row = page.getByRole("listitem").filter({ hasText: "acme/widget: another" });
    await row.getByText("received").waitFor();
    job.moved({ at: "running", stage: "get_sources" });
    await row.getByText("get_sources").waitFor();
    let cpuSeconds = 0;
    job.offer({ usage: async () => ({ cpuSeconds: (cpuSeconds += 10), memoryBytes: 312 * 2 ** 20 }) });
    await row.getByText(/^\d+% 312M$/).waitFor();
    job.moved({ at: "finished", outcome: { result: "success" } });
    job.end();
    await page.getByRole("row").filter({ hasText: "acme/widget: another" }).getByText("success").waitFor();
    await page.close();
  });

  test.each([
    ["dark", 1280],
    ["light", 1280],
    ["dark", 390],
    ["light", 390],
  ] as const)("has no barriers and nothing beside the screen: %s, %i wide", async (colorScheme, width) => {
    stand = await openStand({ password: "a long password" });
    await populate();
    const page = await look("", { colorScheme, viewport: { width, height: 800 } });
    const fits = async (): Promise<void> =>
      expect(await page.evaluate<number>("document.documentElement.scrollWidth")).toBeLessThanOrEqual(width);
    await page.getByLabel("Password").waitFor();
    expect(await barriers(page)).toEqual([]);
    await page.getByLabel("Password").fill("a long password");
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByText("limit of 4 reached").waitFor();
    expect(await barriers(page)).toEqual([]);
    await fits();
    await page.getByRole("link", { name: /widget: test/ }).click();
    await page.getByText("image node:24").waitFor();
    expect(await barriers(page)).toEqual([]);
    await fits();
    await page.close();
  });

  test("an empty one says what to do", async () => {
    stand = await openStand();
    const page = await look();
    await page.getByText("“alloy-runner register” adds one").waitFor();
    await page.getByText("No job is in progress").waitFor();
    await page.getByText("No job has ended yet").waitFor();
    expect(await barriers(page)).toEqual([]);
    await page.close();
  });

  test("each order is given, a grave one only when it is confirmed", async () => {
    stand = await openStand({ password: "a long password" });
    stand.addRunner("one", { at: "idle", answeredAt: Date.now() });
    stand.addRunner("two", { at: "paused" });
    const job = stand.addJob({ title: "acme/widget: build" });
    const page = await look();
    await page.getByLabel("Password").fill("a wrong password");
    await page.keyboard.press("Enter");
    await page.getByRole("alert").getByText("This is not the password").waitFor();
    await page.getByLabel("Password").fill("a long password");
    await page.keyboard.press("Enter");
    const press = async (name: string | RegExp): Promise<void> => await page.getByRole("button", { name }).click();
    await press("Pause one");
    await page.getByRole("status").getByText("Done: Pause one").waitFor();
    await press("Resume two");
    await page.getByText("Done: Resume two").waitFor();
    await press("Reload the configuration");
    await page.getByText("The new configuration cannot be used").waitFor();
    await press("Cancel acme/widget: build");
    expect(job.canceled()).toBe(false);
    await press(/^Cancel it\? Cancel acme\/widget: build/);
    await page.getByText("Done: Cancel acme/widget: build").waitFor();
    expect(job.canceled()).toBe(true);
    await press(/^Drain/);
    await page.getByRole("button", { name: /^End after the running jobs\? Drain/ }).blur();
    await press(/^Drain/);
    await press(/^End after the running jobs\? Drain/);
    await page.getByText("Done: Drain").waitFor();
    expect(stand.told).toEqual([["pause", ["one"]], ["resume", ["two"]], "drain"]);
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByLabel("Password").waitFor();
    expect(await page.getByText("acme/widget").count()).toBe(0);
    // The page's own program cannot read the cookie, whatever becomes of it.
    expect(await page.evaluate<string>("document.cookie")).toBe("");
    // The refused sign-in is one of the browser's own complaints.
    page.removeAllListeners("close");
    await page.close();
  });
});

describe.skipIf(noBrowser !== undefined)("a trace", () => {
  test("is seen at once while 50 jobs print, with what it says taken as text", async () => {
    stand = await openStand();
    const jobs = Array.from({ length: 50 }, () => stand.addJob());
    const page = await look("#/one/1");
    await page.getByRole("log").waitFor();
    const [mine, ...others] = jobs;
    const printing = setInterval(() => others.forEach((job) => void job.print("another line of output\n")), 50);
    mine?.print(`<img src=x onerror=alert(1)> ${ESC}]8;;javascript:alert(1)\x07link${ESC}]8;;\x07\n`);
    await page.getByText("<img src=x onerror=alert(1)> link").waitFor();
    const delays: number[] = [];
    for (let round = 0; round < 20; round++) {
      const at = performance.now();
      mine?.print(`line number ${round}.\n`);
      await page.getByText(`line number ${round}.`, { exact: true }).waitFor({ state: "attached" });
      delays.push(performance.now() - at);
    }
    clearInterval(printing);
    // Half of them: this machine may be busy with something else for a moment.
    expect(delays.sort((a, b) => a - b)[10]).toBeLessThan(200);
    expect(await page.locator(".sheet img, .sheet a").count()).toBe(0);
    await page.close();
  });

  test("follows its end until somebody scrolls up, folds, and is searched", async () => {
    stand = await openStand();
    stand.addRunner("one", { at: "paused" });
    const job = stand.addJob();
    const page = await look("#/one/1");
    job.print(
      `section_start:100:prepare\r${ESC}[0KPreparing\ninside of it\nsection_end:109:prepare\r${ESC}[0Ksection_start:109:sources[collapsed=true]\r${ESC}[0KFetching\nhidden words\nsection_end:119:sources\r${ESC}[0K`,
    );
    job.print(Array.from({ length: 500 }, (_, index) => `line ${index} ${"words ".repeat(index % 60)}\n`).join(""));
    const sheet = page.getByRole("log");
    const follow = page.getByRole("button", { name: "Follow" });
    const atEnd = async (): Promise<boolean> =>
      await sheet.evaluate((box) => box.scrollHeight - box.scrollTop - box.clientHeight < 24);
    await eventually(atEnd).toBe(true);
    job.print(Array.from({ length: 50 }, (_, index) => `more ${index}\n`).join(""));
    await page.getByText("more 49").waitFor();
    await eventually(atEnd).toBe(true);
    expect(await follow.getAttribute("aria-pressed")).toBe("true");
    await sheet.hover();
    await page.mouse.wheel(0, -2000);
    await eventually(() => follow.getAttribute("aria-pressed")).toBe("false");
    job.print("the newest\n");
    await page.getByText("the newest").waitFor({ state: "attached" });
    expect(await atEnd()).toBe(false);
    await follow.click();
    await eventually(atEnd).toBe(true);

    const inside = page.getByText("inside of it");
    const hidden = page.getByText("hidden words");
    expect(await hidden.isVisible()).toBe(false);
    const head = page.getByRole("button", { name: "Preparing" });
    expect(await head.textContent()).toContain("9s");
    await head.focus();
    await page.keyboard.press("Enter");
    expect(await inside.isVisible()).toBe(false);
    expect(await head.getAttribute("aria-expanded")).toBe("false");
    await page.getByRole("button", { name: "Unfold all" }).click();
    expect(await hidden.isVisible()).toBe(true);
    await page.getByRole("button", { name: "Fold all", exact: true }).click();
    expect(await hidden.isVisible()).toBe(false);

    await page.getByRole("searchbox").fill("Hidden");
    await page.getByText("1 of 1", { exact: true }).waitFor();
    expect(await hidden.isVisible()).toBe(true);
    await page.getByRole("searchbox").fill("line 1");
    await page.getByText("1 of 111", { exact: true }).waitFor();
    await page.keyboard.press("Shift+Enter");
    await page.getByText("111 of 111", { exact: true }).waitFor();
    await page.getByRole("button", { name: "Next match" }).click();
    await page.getByText("1 of 111", { exact: true }).waitFor();
    await page.getByRole("searchbox").fill("nowhere at all");
    await page.getByText("none", { exact: true }).waitFor();
    await page.getByRole("button", { name: "Wrap" }).click();
    await follow.click();
    await eventually(() => sheet.evaluate((box) => box.scrollWidth > box.clientWidth)).toBe(true);

    job.endTrace();
    job.moved({ at: "finished", outcome: { result: "success" } });
    job.end();
    await page.getByText("success", { exact: true }).waitFor();
    await page.getByText("the newest").waitFor({ state: "attached" });
    await page.reload();
    await page.getByText("This job has ended: its coordinator has the trace").waitFor();
    await page.close();
  });

  test("of very many lines keeps the last ones", async () => {
    stand = await openStand();
    const job = stand.addJob();
    const page = await look("#/one/1");
    await page.getByRole("log").waitFor();
    for (let at = 0; at < 30_000; at += 1000)
      job.print(Array.from({ length: 1000 }, (_, index) => `line ${at + index}\n`).join(""));
    await page.getByText("line 29999", { exact: true }).waitFor();
    await page.getByText("10000 earlier lines are not shown").waitFor();
    expect(await page.locator(".line").count()).toBeLessThanOrEqual(20_001);
    await page.close();
  }, 60_000);
});
