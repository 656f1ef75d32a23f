import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import type { LocalJob } from "../../src/local/coordinator/jobs/job.ts";
import { bringImages } from "../../test/support/cluster/images.ts";
import { type Node, nodeAt, outputOf, reserveNode, started } from "../../test/support/cluster/node.ts";
import { imageName } from "../../test/support/images.ts";
import { lineDelays, promptScene } from "../line-delays.ts";
import {
  type Figure,
  mean,
  median,
  msToSuccess,
  residentMb,
  type Scene,
  type SceneOptions,
  withScene,
} from "../scene.ts";

/** Jobs in pods of a real cluster of one node on this machine, whose image is in the node. */
export async function kubernetesJobs(): Promise<readonly Figure[]> {
  return await withNamespace(async (place) => [
    ...(await trivialJobs(place)),
    ...(await logLatency(place)),
    ...(await output(place)),
    ...(await artifact(place)),
    ...(await cancel(place)),
    ...(await busyMemory(place)),
  ]);
}

interface Place {
  readonly namespace: string;
  readonly kubeconfig: string;
  kubectl(...args: readonly string[]): Promise<string>;
}

/** The cluster that ALLOY_TEST_CLUSTER names, or one of the benchmark's own. */
async function withNamespace<T>(body: (place: Place) => Promise<T>): Promise<T> {
  const shared = Number(process.env.ALLOY_TEST_CLUSTER ?? 0);
  const running = await started(shared);
  const node = running ? nodeAt(shared) : await reserveNode();
  if (!running) await node.run("start", "--owner", String(process.pid));
  try {
    await bringImages(node, ["git"]);
    const place = placeIn(node);
    await place.kubectl("create", "namespace", place.namespace);
    await place.kubectl("wait", "--for=create", "serviceaccount/default", "-n", place.namespace, "--timeout=60s");
    try {
      return await body(place);
    } finally {
      await place.kubectl("delete", "namespace", place.namespace);
    }
  } finally {
    if (!running) await node.run("stop");
  }
}

function placeIn({ state }: Node): Place {
  const kubeconfig = join(state, "logins/admin.conf");
  const env = { ...process.env, KUBECONFIG: kubeconfig };
  return {
    kubeconfig,
    namespace: `bench-${randomBytes(4).toString("hex")}`,
    kubectl: (...args) => outputOf(join(state, "bin/kubectl"), args, env),
  };
}

async function withJobs<T>(
  { namespace, kubeconfig }: Place,
  options: Partial<SceneOptions> & { readonly concurrent: number },
  body: (scene: Scene) => Promise<T>,
): Promise<T> {
  const image = imageName("git");
  const entry = `request_concurrency = ${Math.min(options.concurrent, 10)}
${options.entry ?? ""}
[runners.kubernetes]
namespace = "${namespace}"
image = "${image}"
helper_image = "${image}"
pull_policy = "never"
poll_timeout = 600
`;
  const scene = {
    dialect: "gitlab",
    executor: "kubernetes",
    env: { KUBECONFIG: kubeconfig },
    ...options,
    entry,
  } as const;
  return await withScene(scene, async (found) => {
    // The first job connects to the cluster.
    await toSuccess(found.coordinator.enqueue({ script: ["true"] }));
    return await body(found);
  });
}

/** Seconds from the pick-up to the report. */
async function toSuccess(job: LocalJob): Promise<number> {
  return (await msToSuccess(job, 300_000)) / 1000;
}

async function trivialJobs(place: Place): Promise<Figure[]> {
  return await withJobs(place, { concurrent: 4 }, async ({ coordinator }) => {
    const alone: number[] = [];
    for (let round = 0; round < 9; round++) alone.push(await toSuccess(coordinator.enqueue({ script: ["true"] })));
    const begin = performance.now();
    const jobs = Array.from({ length: 8 }, () => coordinator.enqueue({ script: ["true"] }));
    await Promise.all(jobs.map(toSuccess));
    const seconds = (performance.now() - begin) / 1000;
    return [
      {
        name: "job of `true` in a pod, received → success, median",
        value: median(alone),
        unit: "s",
        target: 2.2,
        bound: "at most",
      },
      { name: "8 jobs of `true` in pods, 4 at a time", value: seconds, unit: "s", target: 8, bound: "at most" },
    ];
  });
}

async function logLatency(place: Place): Promise<Figure[]> {
  return await withJobs(place, { concurrent: 1, ...promptScene }, async ({ coordinator }) => [
    {
      name: "line printed in a pod → line at the coordinator, mean",
      value: mean(await lineDelays(coordinator)),
      unit: "s",
      target: 0.25,
      bound: "at most",
    },
  ]);
}

const lines = (count: number): string =>
  `mawk 'BEGIN { for (i = 0; i < ${count}; i++) print "[" i "] compiling module number " i * 7 " of the project, all is well" }'`;

/** 100 MB of log text, from the first line of the script to the report. */
async function output(place: Place): Promise<Figure[]> {
  const switches = { storeTrace: "count", traceMarker: "printed-at " } as const;
  return await withJobs(
    place,
    { concurrent: 1, switches, entry: "output_limit = 1000000" },
    async ({ coordinator, runner }) => {
      const make = `${lines(1_500_000)} >text`;
      const job = coordinator.enqueue({
        script: [make, 'echo "printed-at $(date +%s.%N)"; cat text'],
      });
      await toSuccess(job);
      const begun = job.markers.flatMap(({ text }) => /printed-at (\d+\.\d+)/.exec(text)?.[1] ?? []).at(-1);
      const seconds = (job.finishedAt ?? Number.NaN) / 1000 - Number(begun);
      return [
        {
          name: "output of one job in a pod to the coordinator",
          value: job.traceSize / 1e6 / seconds,
          unit: "MB/s",
          target: 20,
          bound: "at least",
        },
        {
          name: "memory meanwhile, peak",
          value: residentMb(runner.pid).peak,
          unit: "MB",
          target: 150,
          bound: "at most",
        },
      ];
    },
  );
}

/** 230 MB of text in 40 files as an artifact, from the end of the script to the report. */
async function artifact(place: Place): Promise<Figure[]> {
  const switches = { bodyLimitBytes: 1e9 };
  return await withJobs(place, { concurrent: 1, switches }, async ({ coordinator, runner }) => {
    const make = `mkdir out; ${lines(80_000)} >out/0; for i in $(seq 39); do cp out/0 out/$i; done; du -sb out`;
    const job = coordinator.enqueue({
      script: [make, 'echo "made-at $(date +%s.%N)"; sleep 1'],
      artifacts: { paths: ["out/"] },
    });
    await toSuccess(job);
    const [, made = ""] = /^made-at (\d+\.\d+)/m.exec(job.trace) ?? [];
    const [, bytes = ""] = /^(\d+)\tout/m.exec(job.trace) ?? [];
    const seconds = (job.finishedAt ?? Number.NaN) / 1000 - Number(made) - 1;
    return [
      {
        name: "artifact of 230 MB text in 40 files out of a pod",
        value: Number(bytes) / 1e6 / seconds,
        unit: "MB/s",
        target: 35,
        bound: "at least",
      },
      { name: "memory meanwhile, peak", value: residentMb(runner.pid).peak, unit: "MB", target: 150, bound: "at most" },
    ];
  });
}

/** A script with children, canceled in a quiet moment; what ran can be seen, as the node is this machine. */
async function cancel(place: Place): Promise<Figure[]> {
  return await withJobs(place, { concurrent: 1 }, async ({ coordinator }) => {
    const times: number[] = [];
    for (let round = 0; round < 3; round++) {
      const naps = `${600_000 + round}.${process.pid}`;
      const job = coordinator.enqueue({ script: [`sh -c 'sleep ${naps}' & echo is-$((1+1))-ready; sleep ${naps}`] });
      await job.traceContains("is-2-ready", { timeoutMs: 60_000 });
      await wait(3000 + round * 1300);
      const begin = performance.now();
      job.cancel();
      while (await isRunning(naps)) await wait(20);
      times.push((performance.now() - begin) / 1000);
      await job.reported();
    }
    return [
      {
        name: "cancel at the coordinator → last process gone in the pod, max",
        value: Math.max(...times),
        unit: "s",
        target: 6,
        bound: "at most",
      },
    ];
  });
}

async function isRunning(argument: string): Promise<boolean> {
  return await outputOf("pgrep", ["-f", `^sleep ${argument.replace(".", "\\.")}`], process.env).then(
    () => true,
    () => false,
  );
}

/** Fifty pods at work at the same time. */
async function busyMemory(place: Place): Promise<Figure[]> {
  return await withJobs(place, { concurrent: 50 }, async ({ coordinator, runner }) => {
    const go = "while [ ! -e go ]; do sleep 1; done";
    const jobs = Array.from({ length: 50 }, () => coordinator.enqueue({ script: ["echo started", go] }));
    await Promise.all(jobs.map((job) => job.traceContains("started", { timeoutMs: 600_000 })));
    await wait(5000);
    const { now, peak } = residentMb(runner.pid);
    for (const job of jobs) job.cancel();
    await Promise.all(jobs.map((job) => job.reported({ timeoutMs: 120_000 })));
    return [
      { name: "resident memory, 50 pods", value: now, unit: "MB", target: 130, bound: "at most" },
      { name: "memory until then, peak", value: peak, unit: "MB", target: 150, bound: "at most" },
    ];
  });
}
