import { writeFile } from "node:fs/promises";
import { ANSWER_BYTES, createCaller } from "../../src/coordinator/calls.ts";
import { JOB_BYTES, openCoordinator } from "../../src/coordinator/client.ts";
import { HEADER_BYTES } from "../../src/coordinator/connection/pool.ts";
import { LONGEST_NAME, MOST_PARTS, MOST_VARIABLES } from "../../src/coordinator/payload/coerce.ts";
import { MOST_MASK_PREFIXES } from "../../src/coordinator/payload/job-parts.ts";
import { parseJob } from "../../src/coordinator/payload/job-payload.ts";
import { DEEPEST_JSON, excessOf, MOST_JSON_VALUES } from "../../src/coordinator/payload/json-extent.ts";
import { MOST_REDIRECTS } from "../../src/coordinator/transfers.ts";
import { MOST_DISAGREEMENTS } from "../../src/journal/delivery/delivery.ts";
import { createOutbox } from "../../src/journal/delivery/outbox.ts";
import { never } from "../../src/time.ts";
import { credentials, info, noTls, type Reply, site, testDeps } from "../coordinator/server.ts";
import { scriptedCoordinator } from "../journal/scripted-coordinator.ts";
import { openState, recordingLog, storedJob, temporaryDirectory } from "../journal/support.ts";
import { bytes, type Case, count, refusal } from "./support.ts";

const sound = { id: 5, token: "jt", steps: [{ name: "script", script: ["true"] }] };

/** The error about a job with this in it, which is not run. */
function said(more: Record<string, unknown>): string {
  const parsed = parseJob(JSON.stringify({ ...sound, ...more }), {
    serverTls: {},
    likelyDialect: "gitlab",
    cut: undefined,
  });
  return "job" in parsed ? `${parsed.job.problem} ${parsed.job.warnings.join(" ")}` : parsed.unreadable;
}

async function answering(reply: Reply) {
  const { url, received } = await site(() => reply);
  return { target: { url, token: "token", ...noTls }, received };
}

async function jobRequest(reply: Reply): Promise<string> {
  const { target } = await answering(reply);
  const answer = await openCoordinator(target, testDeps()).requestJob(info, { hold: false }, never);
  return answer.kind === "job" ? String(answer.job.problem) : answer.kind === "trouble" ? answer.message : answer.kind;
}

export const cases: Readonly<Record<string, Case>> = {
  "wire.headers": {
    bound: bytes(HEADER_BYTES),
    beyond: () => jobRequest({ status: 204, headers: { "x-large": "x".repeat(HEADER_BYTES) } }),
  },
  "wire.answer": {
    bound: bytes(ANSWER_BYTES),
    async beyond() {
      const { target } = await answering({ status: 200, body: "x".repeat(ANSWER_BYTES + 1) });
      const call = { method: "GET", path: "x", endpoint: "x", repeatable: false } as const;
      const reply = await createCaller(target, testDeps()).call(call, never);
      return reply.kind === "answer" ? String(reply.answer.cut) : reply.reason;
    },
  },
  "wire.job": {
    bound: bytes(JOB_BYTES),
    beyond: () => jobRequest({ status: 201, body: JSON.stringify({ ...sound, more: "x".repeat(JOB_BYTES) }) }),
  },
  "wire.json.values": {
    bound: count(MOST_JSON_VALUES),
    beyond: async () => String(await excessOf(`[${"0,".repeat(MOST_JSON_VALUES + 1)}0]`)),
  },
  "wire.json.depth": {
    bound: count(DEEPEST_JSON),
    beyond: async () => String(await excessOf("[".repeat(DEEPEST_JSON + 1))),
  },
  "wire.variables": {
    bound: count(MOST_VARIABLES),
    beyond: async () => said({ variables: Array.from({ length: MOST_VARIABLES + 1 }, () => ({ key: "A" })) }),
  },
  "wire.parts": {
    bound: count(MOST_PARTS),
    beyond: async () => said({ cache: Array.from({ length: MOST_PARTS + 1 }, () => ({ key: "A" })) }),
  },
  "wire.name": {
    bound: count(LONGEST_NAME, "characters"),
    beyond: async () => said({ job_info: { name: "x".repeat(LONGEST_NAME + 1) } }),
  },
  "wire.prefixes": {
    bound: count(MOST_MASK_PREFIXES),
    beyond: async () =>
      said({ features: { token_mask_prefixes: Array.from({ length: MOST_MASK_PREFIXES + 1 }, (_, i) => `tok${i}`) } }),
  },
  "wire.disagreements": {
    bound: count(MOST_DISAGREEMENTS),
    async beyond() {
      const log = recordingLog();
      const { journal } = await openState(await temporaryDirectory());
      const { coordinator, answerWith } = scriptedCoordinator();
      answerWith(({ call }) => (call === "trace" ? { status: "running", next: 1, intervalMs: undefined } : undefined));
      const timing = { firstMs: 1, maxMs: 2, probeMaxMs: 2, remindMs: 60_000, suspectMs: 0, lingerMs: 1, parallel: 1 };
      const outbox = createOutbox({ openCoordinator: () => coordinator, log, maxAgeMs: () => 1e9, timing });
      const record = await journal.accept(storedJob({ dialect: "gitlab" }));
      await writeFile(record.tracePath, "0123456789");
      await record.finish({ state: "success", reason: null, exitCode: null, at: new Date().toISOString() });
      const result = await outbox.deliver(record, { sent: 0, offered: 0, gone: false });
      await outbox.close(AbortSignal.abort());
      return `${result} ${log.lines.join(" ")}`;
    },
  },
  "wire.redirects": {
    bound: count(MOST_REDIRECTS),
    async beyond() {
      const { target, received } = await answering({ status: 302, headers: { location: "?again" } });
      const download = openCoordinator(target, testDeps()).downloadArtifacts(
        credentials("gitlab"),
        () => {},
        { direct: false },
        never,
      );
      const said = await refusal(() => download);
      return received.length === MOST_REDIRECTS + 1 ? said : `${received.length} requests`;
    },
  },
};
