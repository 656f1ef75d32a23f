import type { Fault, Intercept, InterceptedRequest } from "./faults.ts";
import { createRandom, pick } from "./random.ts";

/** What can happen to a request. */
export type ChaosKind =
  | "drop"
  | "drop_after"
  | "hang"
  | "delay"
  | "slow"
  | "truncate"
  | "error"
  | "html"
  | "throttle"
  | "redirect"
  | "nonsense"
  | "endless_headers"
  | "endless_body"
  | "mistyped"
  | "odd_headers"
  | "range";

export interface ChaosOptions {
  /** The same seed: the same faults for the n-th request of an endpoint and job, in whatever order they come. */
  readonly seed: string;
  /** Share of requests that something happens to, 0–1. */
  readonly rate: number;
  /** The same for job requests: each failure there slows the runner's asking down. Default: `rate`. */
  readonly jobRequestRate?: number;
  /** Default: all. */
  readonly kinds?: readonly [ChaosKind, ...ChaosKind[]];
  /**
   * Also what loses jobs by the nature of the protocol: one that is handed out by an answer that does not arrive is
   * gone, since nobody but the caller knows that it was given away. Default: false.
   */
  readonly lossy?: boolean;
  /** Longest time that something is delayed or hangs. Default: 1500. */
  readonly longestMs?: number;
}

export interface Chaos {
  readonly intercept: Intercept;
  /** How often each kind was used. */
  readonly counts: ReadonlyMap<ChaosKind, number>;
}

const allKinds: readonly [ChaosKind, ...ChaosKind[]] = [
  ...(["drop", "drop_after", "hang", "delay", "slow", "truncate", "error", "html", "throttle", "redirect"] as const),
  ...(["nonsense", "endless_headers", "endless_body", "mistyped", "odd_headers", "range"] as const),
];

/** A coordinator, and what stands before it, on their worst day: faults at random, yet the same for the same seed. */
export function createChaos({ seed, rate, jobRequestRate = rate, kinds = allKinds, ...more }: ChaosOptions): Chaos {
  const { lossy = false, longestMs = 1500 } = more;
  const counts = new Map<ChaosKind, number>();
  return {
    counts,
    intercept(request) {
      const { endpoint, jobId, count } = request;
      const random = createRandom(`${seed} ${endpoint} ${jobId ?? ""} ${count}`);
      if (random() >= (endpoint === "job_request" ? jobRequestRate : rate)) return undefined;
      const kind = pick(kinds, random);
      const fault = faultOf(kind, request, { random, lossy, longestMs });
      if (fault !== undefined) counts.set(kind, (counts.get(kind) ?? 0) + 1);
      return fault;
    },
  };
}

interface Means {
  readonly random: () => number;
  readonly lossy: boolean;
  readonly longestMs: number;
}

const page = `<!doctype html><html><head><title>Bad Gateway</title></head><body>${"<p>Sorry</p>".repeat(500)}</body></html>`;

/** @returns `undefined` where this kind makes no sense, or would lose a job and may not */
function faultOf(kind: ChaosKind, { endpoint }: InterceptedRequest, means: Means): Fault | undefined {
  const { random, lossy, longestMs } = means;
  const givesJobs = endpoint === "job_request";
  const delayMs = Math.ceil(random() * longestMs);
  switch (kind) {
    case "drop":
      return { kind: "drop" };
    case "drop_after":
      return givesJobs && !lossy ? undefined : { kind: "drop", handled: true };
    case "hang":
      return { kind: "drop", delayMs };
    case "delay":
      return { kind: "delay", delayMs: Math.ceil(delayMs / 3) };
    case "slow":
      return { kind: "slow", chunkBytes: 200, intervalMs: 5 };
    case "truncate":
      return givesJobs && !lossy ? undefined : { kind: "truncate", bytes: Math.floor(random() * 40) };
    case "error":
      return { kind: "status", status: pick([500, 502, 503, 504, 408], random) };
    case "html":
      return { kind: "status", status: pick([500, 502], random), headers: { "content-type": "text/html" }, body: page };
    case "throttle":
      return throttle(random);
    case "redirect":
      return redirect(random);
    case "nonsense":
      return { kind: "raw", bytes: pick(["HTTP/1.1 999\r\n\r\n", "\0\xff\xfe", "220 mail ready\r\n", ""], random) };
    case "endless_headers":
      return { kind: "endless", part: "headers" };
    case "endless_body":
      return { kind: "endless", part: "body", status: 500 };
    case "mistyped":
      return mistyped(endpoint, random);
    case "odd_headers":
      return endpoint === "trace" ? oddHeaders(random) : undefined;
    case "range":
      return endpoint === "trace" ? wrongRange(random) : undefined;
  }
}

/** Clocks that are years apart, and waits that nobody can mean. */
function throttle(random: () => number): Fault {
  const status = pick([429, 503], random);
  const inYears = (years: number, ms = 0): string => new Date(Date.now() + years * 31_557_600_000 + ms).toUTCString();
  const headers = pick<Readonly<Record<string, string>>>(
    [
      { "retry-after": "1" },
      { "retry-after": "-7" },
      { "retry-after": "soon" },
      { "retry-after": "0" },
      { date: inYears(3), "retry-after": inYears(3, 1000) },
      { date: inYears(-20), "retry-after": inYears(-20, 1000) },
      { "retry-after": inYears(-5) },
      { "ratelimit-resettime": "not a date", "retry-after": "1" },
    ],
    random,
  );
  return { kind: "status", status, headers, body: '{"message":"Retry later"}' };
}

function redirect(random: () => number): Fault {
  const locations = [
    "https://elsewhere.example/login",
    "//elsewhere.example/",
    "",
    "http://[",
    "ftp://a.example/",
  ] as const;
  const status = pick([301, 302, 303, 307, 308], random);
  const location = pick(locations, random);
  return { kind: "status", status, headers: location === "" ? {} : { location } };
}

/** JSON of another shape than anybody expects; to a question for jobs also instead of a job. */
function mistyped(endpoint: string, random: () => number): Fault {
  const headers = { "content-type": "application/json" };
  const body = pick(
    ["[]", "null", '"job"', "{", '{"id":[1],"token":{}}', '{"message":[[[1]]]}', `${"[".repeat(20_000)}`, "\ufeff"],
    random,
  );
  if (endpoint === "job_request") return { kind: "status", status: pick([200, 201, 500], random), headers, body };
  // An answer that says yes where nothing was kept would be a lie that no runner can see through.
  const handled = random() < 0.5;
  return { kind: "status", status: handled ? 200 : 500, headers, body, handled };
}

function oddHeaders(random: () => number): Fault {
  const headers = pick<Readonly<Record<string, string>>>(
    [
      { "job-status": "???" },
      { "job-status": "" },
      { "x-gitlab-trace-update-interval": "-1" },
      { "x-gitlab-trace-update-interval": "NaN" },
      { range: "0-999999999999999999999" },
      { range: "bytes" },
    ],
    random,
  );
  return { kind: "status", status: 202, headers, handled: true };
}

/** 416 with places long past, or none: again and again, it would be a loop. */
function wrongRange(random: () => number): Fault {
  const range = pick(["0-0", "0-1", "7", "0--5", "0-9e9", ""], random);
  return { kind: "status", status: 416, headers: range === "" ? {} : { range } };
}
