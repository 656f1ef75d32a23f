import { mkdir, mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Writable } from "node:stream";
import type { RunnerConfig } from "../../config/config.ts";
import { describeError } from "../../errors.ts";
import { removeTree } from "../../files/remove-tree.ts";
import type { CommandContext } from "../context.ts";
import type { FlagValues } from "../register/runner-flags.ts";
import type { Note } from "./finding.ts";

/** `exec` of jobs with these flags. @returns its exit status */
export type Exec = (jobs: readonly string[], flags: FlagValues, context: CommandContext) => Promise<number>;

const SECRET = "selftest-secret-7c1f20b9";
const LINES = 20_000;
const LAST_LINE = `line ${LINES} of the output`;
/** Of what a job has printed, so much is kept. */
const KEPT_CHARACTERS = 65_536;
const SHOWN_LINES = 6;

/** Texts that are easily broken on their way into a script. */
const TOLD = `it's "quoted", $HOME, \`ticks\` and \\ a \t tab`;

const BEGUN = "it waits to be canceled";

/** By what a name can be looked up that may be there; `/etc/hosts` has it where services are in the same pod. */
const LOOK_UP = `name=selftest-service
grep -q $name /etc/hosts || {
  for ask in "getent hosts" nslookup "ping -c 1 -w 5"; do
    command -v \${ask%% *} >/dev/null || continue
    asked=1
    $ask $name && exit 0
  done
  [ -z "$asked" ] || { echo "$name is not known"; exit 1; }
}`;

const PIPELINE = `stages: [one, two]
sources:
  stage: one
  script: ['test "$(cat selftest.txt)" = "the sources"']
job variables:
  stage: one
  variables: { TOLD: { value: ${JSON.stringify(TOLD)}, expand: false } }
  script: ['test "$TOLD" = "$(cat told.txt)"']
exit status:
  stage: one
  script: ["exit 3"]
big output:
  stage: one
  script: ['i=0; while [ $i -lt ${LINES} ]; do i=$((i+1)); echo "line $i of the output"; done']
masking:
  stage: one
  script: ['echo "it is $SELFTEST_SECRET"']
time limit:
  stage: one
  script: ["sleep 600"]
cancel:
  stage: one
  script: ["echo ${BEGUN}", "sleep 600"]
make:
  stage: one
  script: ["mkdir -p out kept", "echo handed > out/file", "echo kept > kept/file"]
  artifacts: { paths: [out] }
  cache: { key: selftest, paths: [kept] }
use:
  stage: two
  needs: [make]
  script: ['test "$(cat out/file) $(cat kept/file)" = "handed kept"']
  cache: { key: selftest, paths: [kept], policy: pull }
`;

/** The same with a job that has a service, of an image which is surely there. */
export function pipelineFor(serviceImage: string | null): string {
  if (serviceImage === null) return PIPELINE;
  const service = {
    name: serviceImage,
    alias: "selftest-service",
    entrypoint: ["sh", "-c"],
    command: ["while :; do sleep 1; done"],
  };
  const job = { stage: "one", services: [service], script: [LOOK_UP] };
  return `${PIPELINE}service: ${JSON.stringify(job)}\n`;
}

const SERVICE: Check = { name: "service", jobs: ["service"], status: 0 };

interface Check {
  readonly name: string;
  readonly jobs: readonly string[];
  readonly flags?: FlagValues;
  /** It is canceled once it has printed this. */
  readonly cancelAt?: string;
  /** The exit status of `exec` where all is well. */
  readonly status: number;
  /** What is wrong with what was printed, or null. */
  readonly look?: (output: string) => string | null;
}

const CHECKS: readonly Check[] = [
  { name: "sources", jobs: ["sources"], status: 0 },
  { name: "variables", jobs: ["job variables"], status: 0 },
  { name: "exit status", jobs: ["exit status"], status: 3 },
  {
    name: "big output",
    jobs: ["big output"],
    status: 0,
    look: (output) => (output.includes(LAST_LINE) ? null : "its trace is cut: see output_limit"),
  },
  {
    name: "masking",
    jobs: ["masking"],
    status: 0,
    look: (output) => {
      if (output.includes(SECRET)) return "a secret variable stands in the trace";
      return output.includes("it is [MASKED]") ? null : "a secret variable did not reach the script";
    },
  },
  { name: "artifacts and cache", jobs: ["make", "use"], status: 0 },
  { name: "time limit", jobs: ["time limit"], flags: { timeout: "5s" }, status: 1 },
  { name: "cancel", jobs: ["cancel"], flags: { timeout: "60s" }, cancelAt: BEGUN, status: 130 },
];

export interface Selftested {
  readonly entry: RunnerConfig;
  readonly file: string;
  /** An image that its jobs may have as a service. */
  readonly serviceImage: string | null;
}

/** Runs small jobs by an entry's executor, one after another, and says which of them did not do what they are for. */
export async function selftest(
  { entry, file, serviceImage }: Selftested,
  context: CommandContext,
  exec: Exec,
): Promise<Note[]> {
  const place = { check: "selftest", of: entry.name };
  if (entry.shell !== undefined && entry.shell !== "bash" && entry.shell !== "sh") {
    return [{ severity: "ok", ...place, cause: `is left out: its jobs are for bash and sh, not for ${entry.shell}` }];
  }
  const dir = await mkdtemp(join(tmpdir(), "alloy-selftest-"));
  try {
    // Beside the sources: they are all that jobs get.
    const [project, secrets] = [join(dir, "selftest"), join(dir, "secrets.env")];
    await mkdir(project);
    await writeFile(join(project, ".gitlab-ci.yml"), pipelineFor(serviceImage));
    await writeFile(join(project, "selftest.txt"), "the sources\n");
    await writeFile(join(project, "told.txt"), TOLD);
    await writeFile(secrets, `SELFTEST_SECRET=${SECRET}\n`, { mode: 0o600 });
    const notes: Note[] = [];
    for (const check of serviceImage === null ? CHECKS : [...CHECKS, SERVICE]) {
      if (context.signal.aborted) break;
      const flags = { config: file, runner: entry.name, envFile: [secrets], ...check.flags };
      notes.push({ ...place, ...(await tried(check, flags, { ...context, cwd: project }, exec)) });
    }
    return notes;
  } finally {
    await removeTree(dir);
  }
}

type Tried =
  | Pick<Note & { severity: "ok" }, "severity" | "cause">
  | { severity: "error"; cause: string; remedy: string };

async function tried(check: Check, flags: FlagValues, context: CommandContext, exec: Exec): Promise<Tried> {
  const { name, jobs, status, look, cancelAt } = check;
  let output = "";
  const canceling = new AbortController();
  const keep = (text: string): void => {
    output = (output + text).slice(-KEPT_CHARACTERS);
    if (cancelAt !== undefined && output.includes(cancelAt)) canceling.abort();
  };
  const quiet: CommandContext = {
    ...context,
    // Ctrl-C it hears by itself.
    signal: canceling.signal,
    output: new Writable({
      write(chunk, _encoding, done) {
        keep(String(chunk));
        done();
      },
    }),
    print: (text) => keep(`${text}\n`),
    say: (text) => keep(`${text}\n`),
  };
  const begun = performance.now();
  const ended = await exec(jobs, flags, quiet).catch((error: unknown) => {
    keep(describeError(error));
    return 1;
  });
  const wrong = ended === status ? (look?.(output) ?? null) : `ended with status ${ended}, not ${status}`;
  if (wrong === null) {
    return { severity: "ok", cause: `${name}, in ${((performance.now() - begun) / 1000).toFixed(1)} s` };
  }
  const said = output.replaceAll(SECRET, "[MASKED]").trimEnd().split("\n").slice(-SHOWN_LINES).join("\n        │ ");
  return {
    severity: "error",
    cause: `${name}: ${wrong}\n        │ ${said}`,
    remedy:
      'These were its last lines; "alloy-runner exec" with --config and --runner runs jobs of your own in the same way',
  };
}
