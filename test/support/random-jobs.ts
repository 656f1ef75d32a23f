import type { JobSpec, LocalJob } from "../../src/local/coordinator/coordinator.ts";
import { createRandom, pick } from "../../src/local/coordinator/faults/random.ts";

/** A job of random kind, and its expected result if nothing kills its runner. */
export interface RandomJob {
  readonly spec: JobSpec;
  readonly kind: "quick" | "lines" | "fails" | "after" | "background" | "canceled";
  /** Prefix of each of the job's numbered lines: `L12:` */
  readonly mark: string;
  readonly lines: number;
  readonly state: "success" | "failed" | "canceled";
  readonly exitCode: number | undefined;
}

/** A `canceled` job prints this when it may be canceled. */
export const READY = "ready to be canceled";

/** @param canary a secret that each job gets and prints, and that must show nowhere */
export function randomJob(seed: string, index: number, canary: string): RandomJob {
  const random = createRandom(`${seed} job ${index}`);
  const kind = pick(["quick", "lines", "lines", "fails", "after", "background", "canceled"] as const, random);
  const mark = `L${index}:`;
  const count = 1 + Math.floor(random() ** 3 * 4000);
  const exitCode = pick([1, 2, 42, 255], random);
  const print = `seq -f '${mark}%.0f' 1 ${count}`;
  const leak = 'echo "the secret is $CANARY"';
  const common = { name: `job ${index}`, variables: [{ key: "CANARY", value: canary, masked: true }] };
  const base = { kind, mark, lines: count, state: "success", exitCode: undefined } as const;
  switch (kind) {
    case "quick":
      return { ...base, lines: 0, spec: { ...common, script: ["true"] } };
    case "lines":
      return { ...base, spec: { ...common, script: [leak, print, `sleep 0.${Math.floor(random() * 9)}`] } };
    case "fails":
      return { ...base, state: "failed", exitCode, spec: { ...common, script: [print, leak, `exit ${exitCode}`] } };
    case "after": {
      const failed = random() < 0.5;
      const script = failed ? ["echo first", "exit 3"] : ["echo first"];
      const spec = { ...common, script, afterScript: [leak, print] };
      return { ...base, state: failed ? "failed" : "success", exitCode: failed ? 3 : undefined, spec };
    }
    case "background":
      return { ...base, spec: { ...common, script: ["sleep 300 & setsid sleep 300 >/dev/null 2>&1 &", print] } };
    case "canceled":
      return { ...base, state: "canceled", spec: { ...common, script: [print, `echo '${READY}'; sleep 300`] } };
  }
}

/** All that is wrong with the end of `job`, a sentence each. `died`: its runner was killed or stopped while it ran. */
export function judge(expected: RandomJob, job: LocalJob, died: boolean, canary: string): string[] {
  const problems: string[] = [];
  const ends = job.events.filter(
    ({ status }) => status !== "pending" && status !== "running" && status !== "canceling",
  );
  if (ends.length !== 1) problems.push(`it ended ${ends.length} times: ${ends.map(({ status }) => status).join(", ")}`);
  const states = new Set(
    job.updates
      .filter(({ state, status }) => state !== "running" && state !== "pending" && status < 300)
      .map(({ state }) => state),
  );
  if (states.size > 1) problems.push(`it was reported as ${[...states].join(" and ")}`);

  const { trace, status } = job;
  const gaveUp = /the runner died while this job ran|the runner was stopped/.test(trace);
  const spelled = expected.state === "canceled" && job.dialect === "alloy" ? "cancelled" : expected.state;
  if (status !== spelled && !(died && gaveUp && (status === "failed" || status === "canceled"))) {
    problems.push(`it is ${status}, not ${spelled}`);
  }
  if (gaveUp && !died) problems.push("its trace blames the runner, which lived");
  if (!gaveUp && job.dialect === "gitlab" && status === "failed" && job.exitCode !== expected.exitCode) {
    problems.push(`its exit code is ${job.exitCode}, not ${expected.exitCode}`);
  }

  const numbers = trace
    .split(/\r?\n/)
    .filter((line) => line.startsWith(expected.mark))
    .map((line) => Number(line.slice(expected.mark.length)));
  const wrong = numbers.findIndex((number, index) => number !== index + 1);
  // The last line of a job whose runner died may be cut.
  const cutTail = gaveUp && wrong === numbers.length - 1;
  if (wrong !== -1 && !cutTail) problems.push(`line ${wrong + 1} of its trace says ${numbers[wrong]}`);
  if (!gaveUp && numbers.length !== expected.lines) {
    problems.push(`${numbers.length} of its ${expected.lines} lines are in its trace`);
  }
  if (/^L\d+:/m.test(trace.replaceAll(new RegExp(`^${expected.mark}`, "gm"), ""))) {
    problems.push("its trace has lines of another job");
  }
  if (trace.includes(canary)) problems.push("its trace shows the secret");
  return problems.map((problem) => `${job.name} (${expected.kind}, ${job.id}): ${problem}`);
}
