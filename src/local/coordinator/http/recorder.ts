import { type Channel, createChannel, nowMs, until, type Wait } from "../channel.ts";
import type { Endpoint } from "./routes.ts";

/** One request as it arrived, filled in while it is dealt with. Times are milliseconds since 1970. */
export interface RecordedRequest {
  readonly method: string;
  /** With its query. */
  readonly path: string;
  readonly endpoint: Endpoint;
  readonly jobId: string | undefined;
  /** Lower-case names; a header that came more than once is joined by `, `. */
  readonly headers: Readonly<Record<string, string>>;
  /** Names and values in turn, as they came. */
  readonly rawHeaders: readonly string[];
  /** The same number: the same connection. */
  readonly connection: number;
  readonly arrivedAt: number;
  /** Bytes of the body so far, and the first of them up to the recorder's cap. */
  readonly bodyBytes: number;
  readonly body: Buffer;
  /** When its body had all arrived; `undefined` while it has not, or where nobody wanted it. */
  readonly receivedAt: number | undefined;
  /** Since when a long poll has been waiting for work; stays when that is over. */
  readonly heldAt: number | undefined;
  /** When the answer was out or the connection gone; `undefined` while the request is being dealt with. */
  readonly endedAt: number | undefined;
  /** Status of the answer; `undefined` where there was none. */
  readonly status: number | undefined;
  /** Headers of the answer, lower-case. */
  readonly answer: Readonly<Record<string, string>>;
  /** The kind of fault that was put in its way. */
  readonly fault: string | undefined;
}

export interface RequestWait extends Wait {
  /** Only requests that have not arrived yet. Default: false, past ones count. */
  readonly future?: boolean;
}

/** A request that is being recorded. */
interface Recording {
  readonly entry: RecordedRequest;
  chunk(bytes: Buffer): void;
  fault(kind: string): void;
  received(): void;
  held(): void;
  answered(status: number, headers: Readonly<Record<string, string>>): void;
  ended(): void;
}

export interface Recorder {
  readonly requests: readonly RecordedRequest[];
  readonly changed: Channel<RecordedRequest>;
  begin(
    facts: Pick<
      RecordedRequest,
      "method" | "path" | "endpoint" | "jobId" | "headers" | "rawHeaders" | "connection" | "arrivedAt"
    >,
  ): Recording;
  /** The first request that `predicate` accepts; asked at its arrival and at each thing that happens to it. */
  waitFor(predicate: (request: RecordedRequest) => boolean, wait?: RequestWait): Promise<RecordedRequest>;
}

/** @param keep `false`: requests are announced and forgotten, for long runs */
export function createRecorder(keep: boolean, bodyCapBytes: number): Recorder {
  const requests: RecordedRequest[] = [];
  const changed = createChannel<RecordedRequest>();
  return {
    requests,
    changed,
    begin(facts) {
      let bodyBytes = 0;
      let kept = 0;
      const pieces: Buffer[] = [];
      let receivedAt: number | undefined;
      let heldAt: number | undefined;
      let endedAt: number | undefined;
      let status: number | undefined;
      let answer: Readonly<Record<string, string>> = {};
      let fault: string | undefined;
      const entry: RecordedRequest = {
        ...facts,
        get bodyBytes() {
          return bodyBytes;
        },
        get body() {
          return Buffer.concat(pieces);
        },
        get receivedAt() {
          return receivedAt;
        },
        get heldAt() {
          return heldAt;
        },
        get endedAt() {
          return endedAt;
        },
        get status() {
          return status;
        },
        get answer() {
          return answer;
        },
        get fault() {
          return fault;
        },
      };
      if (keep) requests.push(entry);
      changed.emit(entry);
      return {
        entry,
        chunk(bytes) {
          bodyBytes += bytes.length;
          if (!keep || kept >= bodyCapBytes) return;
          // Copied: a slice would hold on to the whole piece that the socket read.
          pieces.push(Buffer.from(bytes.subarray(0, bodyCapBytes - kept)));
          kept += bytes.length;
        },
        fault(kind) {
          fault = kind;
        },
        received() {
          receivedAt = nowMs();
          changed.emit(entry);
        },
        held() {
          heldAt = nowMs();
          changed.emit(entry);
        },
        answered(code, headers) {
          status = code;
          answer = headers;
          changed.emit(entry);
        },
        ended() {
          if (endedAt !== undefined) return;
          endedAt = nowMs();
          changed.emit(entry);
        },
      };
    },
    waitFor(predicate, wait) {
      const since = wait?.future === true ? nowMs() : 0;
      let found = since === 0 ? requests.find(predicate) : undefined;
      // What is not kept has to be caught as it passes.
      const off = changed.on((request) => {
        if (found === undefined && request.arrivedAt >= since && predicate(request)) found = request;
      });
      const seen = (): string =>
        requests
          .slice(-10)
          .map(({ method, path, status }) => `${method} ${path} → ${status ?? "…"}`)
          .join("\n");
      return until(
        changed,
        () => found,
        () => `a request; the last ones were\n${seen()}`,
        wait,
      ).finally(off);
    },
  };
}
