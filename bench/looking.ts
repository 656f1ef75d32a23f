import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { createOutlook } from "../executors/common/outlook.ts";
import { createLog } from "../src/log.ts";
import { createAdmission } from "../src/poll/admission/admission.ts";
import { never } from "../src/time.ts";
import { noBrowser, openBrowser } from "../test/support/browser.ts";
import { freePort } from "../test/support/free-port.ts";
import { program } from "../test/support/program.ts";
import { cpuSeconds, type Figure, mean, median, residentMb, type Scene, withScene } from "./scene.ts";

const JOBS = 50;
/** A line a second, and of the watched one ten. */
const printing = (pauseSeconds: number, lines: number): string =>
  `i=0; while [ $i -lt ${lines} ]; do echo "printed-at $EPOCHREALTIME"; sleep ${pauseSeconds}; i=$((i+1)); done`;

/** What looking costs and how prompt it is: page, socket, and what is asked before each request for a job. */
export async function looking(): Promise<readonly Figure[]> {
  const port = await freePort();
  const web = `[web]\nlisten_address = "127.0.0.1:${port}"`;
  const figures: Figure[] = [];
  await withScene({ dialect: "alloy", concurrent: JOBS, global: web }, async (scene) => {
    const { coordinator } = scene;
    const jobs = Array.from({ length: JOBS }, (_, index) =>
      coordinator.enqueue({
        name: `job ${index}`,
        script: [index === 0 ? printing(0.1, 300) : printing(1, 60)],
        variables: { GIT_STRATEGY: "none" },
      }),
    );
    await Promise.all(jobs.map((job) => job.traceContains("printed-at ", { timeoutMs: 60_000 })));
    if (noBrowser === undefined) {
      const delays = await delaysOnPage(port);
      const name = "line printed → line on the page, 50 jobs at work";
      figures.push({
        name: `${name}, median`,
        value: median(delays) * 1000,
        unit: "ms",
        target: 200,
        bound: "at most",
      });
    }
    figures.push({
      name: "`jobs`, 50 jobs at work, median",
      value: jobsMs(scene),
      unit: "ms",
      target: 60,
      bound: "at most",
    });
    for (const job of jobs) job.cancel();
    await Promise.all(jobs.map((job) => job.reported({ timeoutMs: 120_000 })));
  });
  return [...figures, ...(await unseen(web)), await admission()];
}

/** Seconds from printing lines of job 0 to their being on its page. */
async function delaysOnPage(port: number): Promise<number[]> {
  const browser = await openBrowser();
  try {
    const page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${port}/`);
    await page.getByRole("link", { name: /job 0$/ }).click();
    await page.getByText("printed-at").first().waitFor();
    return await page.evaluate<number[]>(SEEN);
  } finally {
    await browser.close();
  }
}

/** Runs in the page, whose words the compiler does not know here: what comes within ten seconds. */
const SEEN = `new Promise((resolve) => {
  const sheet = document.querySelector(".sheet");
  const stamps = () => sheet.textContent.slice(-4000).match(/\\d{10}\\.\\d{6}/g) ?? [];
  const known = new Set(stamps());
  const delays = [];
  new MutationObserver(() => {
    for (const stamp of stamps()) {
      if (known.has(stamp)) continue;
      known.add(stamp);
      delays.push(Date.now() / 1000 - Number(stamp));
    }
  }).observe(sheet, { childList: true, subtree: true, characterData: true });
  setTimeout(() => resolve(delays), 10_000);
})`;

function jobsMs({ dir }: Scene): number {
  const [command, ...args] = program();
  const times: number[] = [];
  for (let i = 0; i < 21; i++) {
    const begin = performance.now();
    spawnSync(command, [...args, "jobs", "--config", join(dir, "config.toml")], { stdio: "ignore" });
    times.push(performance.now() - begin);
  }
  return median(times);
}

/** The same runner with a page that nobody looks at and without one, ten jobs at work. */
async function unseen(web: string): Promise<Figure[]> {
  const measure = async (global: string): Promise<{ cpu: number; mb: number }> =>
    await withScene({ dialect: "alloy", concurrent: 10, global }, async ({ coordinator, runner }) => {
      const script = [printing(1, 60)];
      const jobs = Array.from({ length: 10 }, () =>
        coordinator.enqueue({ script, variables: { GIT_STRATEGY: "none" } }),
      );
      await Promise.all(jobs.map((job) => job.traceContains("printed-at ")));
      const before = cpuSeconds(runner.pid);
      await wait(20_000);
      const used = { cpu: ((cpuSeconds(runner.pid) - before) / 20) * 100, mb: residentMb(runner.pid).now };
      for (const job of jobs) job.cancel();
      await Promise.all(jobs.map((job) => job.reported({ timeoutMs: 60_000 })));
      return used;
    });
  const [without, with_] = [await measure(""), await measure(web)];
  return [
    {
      name: "a page that nobody looks at",
      value: Math.max(0, with_.cpu - without.cpu),
      unit: "% of a core",
      target: 1,
      bound: "at most",
    },
    { name: "memory of it", value: Math.max(0, with_.mb - without.mb), unit: "MB", target: 5, bound: "at most" },
  ];
}

/** All that is asked before a request for a job, by an entry whose place and disks are looked at. */
async function admission(): Promise<Figure> {
  const log = createLog({ level: "fatal", format: "text", output: { write: () => {}, flush: async () => {} } });
  const admitting = createAdmission({
    hasRoom: async () => true,
    disk: () => ({ freeBytes: 1e12, minFreeBytes: 0 }),
    onRoom: () => {},
    log,
  });
  admitting.configure({
    minFreeDiskBytes: 1,
    admission: {
      minFreeInodes: 1,
      maxMemoryPressure: 99,
      maxCpuPressure: null,
      maxWeight: Number.POSITIVE_INFINITY,
      maxSystemFailures: 5,
      failurePauseMs: 60_000,
    },
  });
  const { ready } = createOutlook({ freshMs: 10_000, staleMs: 30_000, limitMs: 5000, look: async () => {} });
  const gate = admitting.gate({
    executor: { ready, disks: () => ["/tmp", "/var"] },
    meter: { refusedAdmission: () => {} },
    log,
  });
  const times: number[] = [];
  // A second and more, so that each kind of look is taken anew at least once.
  for (const end = performance.now() + 2500; performance.now() < end; ) {
    const begin = performance.now();
    await gate.admit(never);
    times.push(performance.now() - begin);
    await wait(1);
  }
  return { name: "admission, a question, mean", value: mean(times), unit: "ms", target: 1, bound: "at most" };
}
