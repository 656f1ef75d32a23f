import { z } from "zod";

/**
 * What goes over the control socket: one HTTP request, one answer, as JSON; a trace as it is written is a line of JSON for each
 * piece. Fields may be added; a change that an older program would misread is a new `PROTOCOL`.
 */
export const PROTOCOL = 1;

/** How long what removes things may take. */
export const LONG_WORK_MS = 1_200_000;

/** Each answer says in this header which protocol it has. */
export const PROTOCOL_HEADER = "alloy-control";
export const VERSION_HEADER = "alloy-runner";

const time = z.iso.datetime();

const outcomeSchema = z.object({
  result: z.enum(["success", "canceled", "failed"]),
  reason: z.string().optional(),
  exitCode: z.number().optional(),
});

const jobSchema = z.object({
  id: z.string(),
  title: z.string(),
  runner: z.string(),
  runnerId: z.string(),
  /** `received`, `preparing`, `running`, `finished`: clean-up is left, `delivering`: the coordinator has not heard of its end. */
  state: z.enum(["received", "preparing", "running", "finished", "delivering", "ended"]),
  stage: z.string().optional(),
  receivedAt: time,
  /** When it came to its state or stage. */
  since: time,
  elapsedSeconds: z.number(),
  /** How long it waited at the coordinator before, as that says. */
  queuedSeconds: z.number().optional(),
  traceBytes: z.number(),
  /** It goes on through a restart of the runner. */
  durable: z.boolean().optional(),
  /** So many processes of the runner have gone on with it that had not begun it. */
  adopted: z.number().optional(),
  outcome: outcomeSchema.optional(),
  /** What it has used, and while it runs what it uses, as far as its executor can tell. */
  usage: z
    .object({
      cpuSeconds: z.number().optional(),
      /** 100: one processor; only while it runs, and from the second look on. */
      cpuPercent: z.number().optional(),
      /** In use now, while it runs. */
      memoryBytes: z.number().optional(),
      peakMemoryBytes: z.number().optional(),
      readBytes: z.number().optional(),
      writtenBytes: z.number().optional(),
      imageSeconds: z.number().optional(),
    })
    .optional(),
  /** The stages that have ended; the present one is not among them. */
  stages: z.array(z.object({ name: z.string(), seconds: z.number() })),
  lastLine: z.string().optional(),
});

const runnerSchema = z.object({
  name: z.string(),
  id: z.string(),
  executor: z.string(),
  url: z.string(),
  /** `null`: none. */
  limit: z.number().nullable(),
  jobs: z.number(),
  /** The kind of `reason`. */
  state: z.string(),
  /** Why it takes no job now. */
  reason: z.string(),
  /** What its executor has, such as machines: those that are none are left out. */
  figures: z.array(z.object({ about: z.string(), name: z.string(), value: z.number() })).optional(),
});

export const statusSchema = z.object({
  version: z.string(),
  pid: z.number(),
  config: z.string(),
  startedAt: time,
  state: z.enum(["starting", "running", "draining", "stopping"]),
  concurrent: z.number(),
  /** Jobs that may outlive the runner are kept; absent: no entry has such. */
  durable: z.boolean().optional(),
  runners: z.array(runnerSchema),
  jobs: z.array(jobSchema),
  /** Newest first. */
  finished: z.array(jobSchema),
});

/** One line of a trace that is followed: a piece of it, or its end. */
export const traceLineSchema = z.union([
  z.object({ at: z.number(), text: z.string() }),
  /** `job`: its state when the trace ended, or when the reader wanted no more. */
  z.object({ end: z.number(), job: jobSchema }),
]);

export const problemSchema = z.object({ problem: z.string() });
export const canceledSchema = z.object({ job: jobSchema });
export const runnersSchema = z.object({ runners: z.array(runnerSchema) });
export const drainedSchema = z.object({ jobs: z.number() });
/** What housekeeping removed, or would. */
export const tidiedSchema = z.object({
  dry: z.boolean(),
  things: z.array(
    z.object({
      kind: z.enum(["image", "volume", "builds"]),
      name: z.string(),
      where: z.string(),
      bytes: z.number(),
      usedAt: time,
      why: z.string(),
      problem: z.string().optional(),
    }),
  ),
});
export const reloadedSchema = z.object({ status: z.string() });

export type TidiedAnswer = z.infer<typeof tidiedSchema>;
export type JobLine = z.infer<typeof jobSchema>;
export type RunnerLine = z.infer<typeof runnerSchema>;
export type StatusAnswer = z.infer<typeof statusSchema>;
export type TraceLine = z.infer<typeof traceLineSchema>;
