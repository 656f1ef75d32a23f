import type { Board, JobView, LiveUsage, RunnerView } from "../board/contract.ts";
import type { Log } from "../log.ts";
import type { HttpReply, HttpRequest } from "../serving/http.ts";
import { lastLine } from "./last-line.ts";
import { jobLine, runnerLines, tidiedAnswer, toMilliseconds } from "./lines.ts";
import { type JobLine, PROTOCOL, type StatusAnswer } from "./protocol.ts";
import type { Steering } from "./steering.ts";
import type { Followed } from "./trace-lines.ts";

type Answer = HttpReply | { readonly follows: Followed };
type Route = (request: HttpRequest, steering: Steering, log: Log) => Answer | Promise<Answer>;

/** `{id}` is a job's, as its coordinator numbers it. */
const ROUTES: Readonly<Record<string, Route>> = {
  "GET status": async ({ query }, steering) =>
    json(await statusOf(steering, { lines: query.get("lines") === "1", usage: query.get("usage") === "1" })),
  "GET jobs/{id}/trace": (request, { board }) => {
    const job = jobOf(request, [...board.jobs(), ...board.finished()]);
    if ("status" in job) return job;
    if (board.trace(job.number) === null) {
      return refusal(
        409,
        `Job ${job.id} has ended and its coordinator has its trace; here it can be read only until then`,
      );
    }
    const { query } = request;
    return { follows: { job, from: wholeNumber(query.get("from")), follow: query.get("follow") === "1" } };
  },
  "POST jobs/{id}/cancel": (request, { board }, log) => {
    const job = jobOf(request, [...board.jobs(), ...board.finished()]);
    if ("status" in job) return job;
    const { at } = job.progress;
    if (at === "finished" || at === "delivering") return refusal(409, `Job ${job.id} has ended already`);
    log.info("a job is canceled by the operator", { job: job.id, runner: job.runner });
    board.cancel(job.number);
    return json({ job: jobLine(job, Date.now()) });
  },
  "POST pause": toRunners("pause", "asking for no more jobs until that is resumed"),
  "POST resume": toRunners("resume", "asking for jobs again"),
  "POST drain": (_, steering) => {
    steering.drain();
    return json({ jobs: steering.board.jobs().length });
  },
  "POST gc": async ({ query }, steering, log) => {
    const dry = query.get("dry") === "1";
    if (!dry) log.info("housekeeping, as the operator wished");
    return json(tidiedAnswer(await steering.tidy(dry), dry));
  },
  "POST reload": async (_, steering) => {
    const reloaded = await steering.reload();
    return "problem" in reloaded ? refusal(409, reloaded.problem) : json(reloaded);
  },
};

function toRunners(wish: "pause" | "resume", logged: string): Route {
  return (request, steering, log) => {
    const ids = runnersOf(request, steering.board.runners());
    if (!Array.isArray(ids) && ids !== "all") return ids;
    log.info(logged, { runner: shown(ids) });
    steering[wish](ids);
    return json({ runners: chosen(steering, ids) });
  };
}

/** As the log has it. */
function shown(ids: readonly string[] | "all"): string {
  return ids === "all" ? "all" : ids.join(", ");
}

/** What a request on the socket is answered with. */
export async function answer(asked: HttpRequest | HttpReply, steering: Steering, log: Log): Promise<Answer> {
  if ("status" in asked) return refusal(asked.status, asked.body.trim());
  const [, version, path = ""] = /^\/v(\d+)\/(.*)$/.exec(asked.path) ?? [];
  if (version !== String(PROTOCOL)) {
    return refusal(404, `This runner speaks version ${PROTOCOL} of its protocol: paths begin with /v${PROTOCOL}/`);
  }
  const name = path.replace(/^jobs\/[^/]+\//, "jobs/{id}/");
  const route = Object.hasOwn(ROUTES, `${asked.method} ${name}`) ? ROUTES[`${asked.method} ${name}`] : undefined;
  if (route !== undefined) return await route(asked, steering, log);
  const methods = Object.keys(ROUTES).flatMap((one) => {
    const [method = "", of] = one.split(" ");
    return of === name ? [method] : [];
  });
  if (methods.length === 0) return refusal(404, `${asked.path} is nothing here`);
  return { ...refusal(405, `${asked.method} is not for ${asked.path}`), headers: { Allow: methods.join(", ") } };
}

export function refusal(status: HttpReply["status"], problem: string): HttpReply {
  return { ...json({ problem }), status };
}

function json(value: object): HttpReply {
  return { status: 200, type: "application/json", body: `${JSON.stringify(value)}\n` };
}

/** What is looked at only where somebody wants it: the last line of each job in progress, and what it uses at this moment. */
export interface Looks {
  readonly lines: boolean;
  readonly usage: boolean;
}

/** All that the board shows. */
export async function statusOf(steering: Steering, looks: Looks): Promise<StatusAnswer> {
  const { board, version } = steering;
  const now = Date.now();
  const shown = async (view: JobView): Promise<JobLine> => {
    const trace = looks.lines ? board.trace(view.number) : null;
    const [line, usage] = await Promise.all([
      trace === null ? undefined : lastLine(trace),
      looks.usage ? liveUsage(board, view) : undefined,
    ]);
    return {
      ...jobLine(view, now),
      ...(usage === undefined ? {} : { usage }),
      ...(line === undefined ? {} : { lastLine: line }),
    };
  };
  return {
    version,
    pid: process.pid,
    startedAt: new Date(now - Math.round(process.uptime() * 1000)).toISOString(),
    ...steering.about(),
    runners: runnerLines(steering, now),
    jobs: await Promise.all(board.jobs().map(shown)),
    finished: board.finished().map((view) => jobLine(view, now, true)),
  };
}

/** `undefined`: nothing is known of it, or what it has used in all. */
export async function liveUsage(board: Board, { number, usage }: JobView): Promise<LiveUsage | undefined> {
  if (usage !== undefined) return undefined;
  const live = await board.usage(number);
  return Object.keys(live).length === 0 ? undefined : toMilliseconds(live);
}

/** The job that a request means. A job in progress comes before one of the same number that has ended. */
function jobOf({ path, query }: HttpRequest, jobs: readonly JobView[]): JobView | HttpReply {
  const id = decoded(/^\/v\d+\/jobs\/([^/]+)\//.exec(path)?.[1] ?? "");
  const runner = query.get("runner");
  const found = jobs.filter((job) => job.id === id && (runner === null || isNamed(job.runnerName, job.runner, runner)));
  const [first, second] = found;
  if (first === undefined) {
    const of = runner === null ? "" : ` of a runner "${runner}"`;
    return refusal(404, `There is no job ${id}${of} here: neither in progress nor among the last that ended`);
  }
  const ambiguous = second !== undefined && new Set(found.map((job) => job.runner)).size > 1;
  if (!ambiguous) return first;
  const names = found.map((job) => `"${job.runnerName}" (${job.runner})`).join(", ");
  return refusal(409, `There are several jobs ${id}, of the runners ${names}: say which with --runner`);
}

/** The ids of the entries that are meant. */
function runnersOf({ query }: HttpRequest, runners: readonly RunnerView[]): string[] | "all" | HttpReply {
  const wanted = query.get("runner");
  if (wanted === null) return "all";
  const found = runners.filter(({ name, id, activity }) => activity.at !== "unusable" && isNamed(name, id, wanted));
  if (found.length > 0) return [...new Set(found.map(({ id }) => id))];
  const names = runners.map(({ name }) => `"${name}"`).join(", ") || "none at all";
  return refusal(404, `There is no runner "${wanted}" at work; there is ${names}`);
}

function chosen(steering: Steering, ids: readonly string[] | "all") {
  return runnerLines(steering, Date.now()).filter(({ id }) => ids === "all" || ids.includes(id));
}

function isNamed(name: string, id: string, wanted: string): boolean {
  return name === wanted || (id !== "" && id === wanted);
}

function wholeNumber(text: string | null): number {
  const number = Number(text ?? "0");
  return Number.isSafeInteger(number) ? number : 0;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
