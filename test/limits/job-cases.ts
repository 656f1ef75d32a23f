import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LONGEST_PATTERN, MOST_ALTERNATIVES } from "../../executors/common/files/braces.ts";
import { createNameCount } from "../../executors/common/files/found.ts";
import { selectFiles as selectFound } from "../../executors/common/files/select-files.ts";
import { DEEPEST, MOST_NAME_BYTES } from "../../executors/common/files/unpack-rules.ts";
import { MOST_SERVICE_BYTES, serviceVariables } from "../../executors/images/service-variables.ts";
import { MOST_STEPS, MOST_TEXT } from "../../src/coordinator/payload/inputs/budget.ts";
import { withInputs } from "../../src/coordinator/payload/inputs/interpolate.ts";
import type { Job } from "../../src/job/job.ts";
import { checkScriptSize, MOST_SCRIPT_BYTES } from "../../src/job/life/stages/script-size.ts";
import { LONGEST_EXPANDED_NAME } from "../../src/job/variables/expand.ts";
import { MOST_ENVIRONMENT_BYTES } from "../../src/job/variables/resolve.ts";
import { MOST_SECRET_BYTES, MOST_SECRET_LINES } from "../../src/job/variables/secret-amount.ts";
import { LONGEST_LOGINS_BYTES, secretsOf } from "../../src/job/variables/secrets.ts";
import { createVariables, LARGEST_ENTRY_BYTES } from "../../src/job/variables/variables.ts";
import { never } from "../../src/time.ts";
import { LONGEST_DISGUISED } from "../../src/trace/mask/disguises.ts";
import { openTrace } from "../../src/trace/trace.ts";
import { MOST_PATTERNS, selectFiles } from "../../src/transfer/select-files.ts";
import { createSentences, MOST_ENTRIES, MOST_SENTENCES } from "../../src/workspace.ts";
import { entry, read } from "../config/support.ts";
import { jobWith, variable } from "../job/stand.ts";
import { bytes, type Case, count, refusal } from "./support.ts";

function variablesOf(...variables: Job["variables"]) {
  return createVariables({
    job: jobWith({ variables, dialect: "gitlab" }),
    environment: [],
    identity: { version: "2.0.0", revision: "abc1234", architecture: "linux/amd64" },
    shortToken: "",
    flags: [],
    concurrentId: 0,
    shared: true,
    place: null,
  });
}

function secretsSaid(key: string, value: string): string {
  const { problem, warnings } = secretsOf(
    jobWith({ variables: [variable(key, value, { masked: true, public: false })] }),
  );
  return `${problem} ${warnings.join(" ")}`;
}

function inputsSaid(type: string, content: unknown, expression: string): string {
  const inputs = [{ key: "big", value: { type, content } }];
  return String(
    withInputs({ inputs, steps: [{ name: "script", script: [`\${{ ${expression} }}`] }] }, { entry: true }).problem,
  );
}

async function listed(...globs: string[]): Promise<string> {
  const nothing = { files: new Map(), special: [] };
  const source = {
    find: async (patterns: readonly unknown[]) => patterns.map(() => nothing),
    untracked: async () => nothing,
    targets: async () => new Map<string, string>(),
  };
  let warnings: readonly string[] = [];
  const refused = await refusal(async () => {
    ({ warnings } = await selectFound("/builds", { globs, exclude: [], untracked: false }, source, never));
  });
  return `${refused} ${warnings.join(" ")}`;
}

export const cases: Readonly<Record<string, Case>> = {
  "job.value": {
    bound: count(LARGEST_ENTRY_BYTES - 1, "bytes"),
    beyond: async () => String(variablesOf(variable("BIG", "x".repeat(LARGEST_ENTRY_BYTES - 3))).problem),
  },
  "job.environment": {
    bound: bytes(MOST_ENVIRONMENT_BYTES),
    async beyond() {
      const big = variable("BIG", "x".repeat(100_000));
      const length = Math.ceil(MOST_ENVIRONMENT_BYTES / 100_000);
      const all = Array.from({ length }, (_, i) => variable(`REFERS_${i}`, "$BIG"));
      return String(variablesOf(big, ...all).problem);
    },
  },
  "job.name": {
    bound: count(LONGEST_EXPANDED_NAME, "characters"),
    beyond: () => refusal(() => variablesOf(variable("BIG", "x".repeat(LONGEST_EXPANDED_NAME + 1))).expand("out/$BIG")),
  },
  "job.script": {
    bound: bytes(MOST_SCRIPT_BYTES),
    beyond: () =>
      refusal(() => {
        const content = "x".repeat(MOST_SCRIPT_BYTES + 1);
        checkScriptSize([{ op: "exportFile", name: "BIG", path: "/x", content }], "the script");
      }),
  },
  "job.inputs.steps": {
    bound: count(MOST_STEPS, "steps"),
    beyond: async () => inputsSaid("array", Array(MOST_STEPS).fill(0), "job.inputs.big == job.inputs.big"),
  },
  "job.inputs.text": {
    bound: count(MOST_TEXT, "characters"),
    beyond: async () => inputsSaid("string", "x".repeat(MOST_TEXT + 1), "job.inputs.big"),
  },
  "job.secrets": {
    bound: bytes(MOST_SECRET_BYTES),
    beyond: async () => secretsSaid("BIG", "x".repeat(MOST_SECRET_BYTES + 1)),
  },
  "job.secret.lines": {
    bound: count(MOST_SECRET_LINES),
    beyond: async () => secretsSaid("BIG", "line\n".repeat(MOST_SECRET_LINES + 1)),
  },
  "job.secret.disguises": {
    bound: count(LONGEST_DISGUISED, "characters"),
    beyond: async () => secretsSaid("BIG", "x".repeat(LONGEST_DISGUISED + 1)),
  },
  "job.logins": {
    bound: bytes(LONGEST_LOGINS_BYTES),
    beyond: async () => secretsSaid("DOCKER_AUTH_CONFIG", "x".repeat(LONGEST_LOGINS_BYTES + 1)),
  },
  "job.service": {
    bound: bytes(MOST_SERVICE_BYTES),
    beyond: () =>
      refusal(() =>
        serviceVariables({ open: [], expandWith: (_, text) => text.replaceAll("$BIG", "x".repeat(100_000)) }, [
          { key: "REFERS", value: "$BIG".repeat(MOST_SERVICE_BYTES / 100_000), raw: false },
          { key: "ONE", value: "x".repeat(100_000), raw: true },
        ]),
      ),
  },
  "job.patterns": {
    bound: count(MOST_PATTERNS),
    beyond: () =>
      refusal(() => {
        const globs = Array.from({ length: MOST_PATTERNS + 1 }, (_, i) => `file-${i}`);
        const list = () => Promise.reject(new Error("it was asked for"));
        return selectFiles({ list }, { globs, exclude: [], untracked: false }, never);
      }),
  },
  "job.pattern": { bound: count(LONGEST_PATTERN, "bytes"), beyond: () => listed("x".repeat(LONGEST_PATTERN + 1)) },
  "job.pattern.alternatives": {
    bound: count(MOST_ALTERNATIVES),
    beyond: () => listed(`{${Array.from({ length: MOST_ALTERNATIVES + 1 }, (_, i) => i).join(",")}}`),
  },
  "job.patterns.alternatives": {
    bound: count(MOST_ALTERNATIVES),
    beyond: () => listed(`{${Array.from({ length: MOST_ALTERNATIVES }, (_, i) => i).join(",")}}`, "one-more"),
  },
  "job.pattern.segments": { bound: count(DEEPEST), beyond: () => listed("*/".repeat(DEEPEST + 1)) },
  "job.files": {
    bound: count(MOST_ENTRIES),
    beyond: () =>
      refusal(() => {
        const names = createNameCount();
        for (let i = 0; i <= MOST_ENTRIES; i++) names.count("x");
      }),
  },
  "job.files.names": {
    bound: bytes(MOST_NAME_BYTES),
    beyond: () =>
      refusal(() => {
        const names = createNameCount();
        const name = "x".repeat(1024);
        for (let i = 0; i <= MOST_NAME_BYTES / 1024; i++) names.count(name);
      }),
  },
  "job.sentences": {
    bound: count(MOST_SENTENCES),
    async beyond() {
      const sentences = createSentences();
      for (let i = 0; i <= MOST_SENTENCES; i++) sentences.add(`sentence ${i}`);
      return sentences.list.join(" ");
    },
  },
  "job.output": {
    bound: bytes(4 * 1024 * 1024),
    async beyond() {
      const { runners } = await read(entry());
      const limitBytes = runners[0]?.outputLimitBytes ?? 0;
      const dir = await mkdtemp(join(tmpdir(), "alloy-limits-"));
      try {
        const path = join(dir, "trace");
        const trace = await openTrace({ path, secrets: [], secretPrefixes: [], limitBytes, sections: false });
        trace.output.write("x".repeat(limitBytes + 1));
        await trace.end();
        await trace.close();
        return await readFile(path, "utf8");
      } finally {
        await rm(dir, { recursive: true });
      }
    },
  },
};
