import { once } from "node:events";
import { StringDecoder } from "node:string_decoder";
import { describeError } from "../../../../src/errors.ts";
import type { Notes } from "../../../../src/executor/prepare.ts";
import { openLog } from "../../container/service-log.ts";
import type { Engine } from "../../engine/engine.ts";
import { type Channel, createDemultiplexer } from "../../engine/stream.ts";
import type { RunningService } from "./services.ts";

/** Longer lines are passed on in pieces. */
const MOST_LINE_CHARACTERS = 8192;
/** A log that breaks off is opened anew so often. */
const TRIES = 2;
const GREY = "\x1b[0;37m";
const RESET = "\x1b[0;m";

/** A service whose log is followed. */
export interface LoggingService extends Pick<RunningService, "id" | "names"> {
  readonly wanted: Pick<RunningService["wanted"], "name">;
}

/**
 * `CI_DEBUG_SERVICES`: what services print goes into the trace as it comes, each line with the names of its service and with the
 * engine's time.
 * @param since what was printed before is in the trace already
 * @returns how to stop, once nothing more is written
 */
export function followServices(
  engine: Engine,
  services: readonly LoggingService[],
  notes: Notes,
  since?: Date,
): () => Promise<void> {
  const over = new AbortController();
  const following = services.map(async (service) => {
    try {
      await follow(engine, service, { notes, since: since?.toISOString() ?? "" }, over.signal);
    } catch (error) {
      if (over.signal.aborted) return;
      notes.print(`The log of the service ${service.wanted.name} cannot be shown: ${describeError(error)}`, "warning");
    }
  });
  return async () => {
    over.abort(new Error("the job is over"));
    await Promise.all(following);
  };
}

async function follow(
  engine: Engine,
  service: LoggingService,
  { notes, since: begin }: { readonly notes: Notes; readonly since: string },
  signal: AbortSignal,
): Promise<void> {
  const prefix = `${GREY}[service:${[...service.names].sort().join("-")}] `;
  const sink = notes.services ?? notes.stream;
  let last = begin;
  const print = (line: string): void => {
    const [, time = ""] = /^(\d{4}-\d\d-\d\dT\S+) /.exec(line) ?? [];
    // After a break the log is asked for by a time in whole seconds, so it begins with lines that were seen already.
    if (time !== "" && time <= after) return;
    last = time || last;
    const shown = line.replace(/\r$/, "").replace(/[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]/g, "\ufffd");
    if (!sink.destroyed && !sink.writableEnded) sink.write(`${prefix}${shown}${RESET}\n`);
  };
  let after = "";
  for (let tries = 0; tries < TRIES; tries++) {
    after = last;
    const since = after === "" ? "" : `&since=${Math.floor(Date.parse(after) / 1000)}`;
    const query = `stdout=1&stderr=1&timestamps=1&follow=1${since}`;
    const stream = await openLog(engine, service.id, query, signal);
    const onAbort = (): void => void stream.destroy();
    signal.addEventListener("abort", onAbort, { once: true });
    const channels: Record<Channel, ReturnType<typeof createLines>> = {
      stdout: createLines(print),
      stderr: createLines(print),
    };
    const frames = createDemultiplexer((channel, payload) => channels[channel].write(payload));
    let broken = false;
    try {
      for await (const chunk of stream) {
        frames.write(Buffer.isBuffer(chunk) ? chunk : Buffer.from(String(chunk)));
        if (sink.writableNeedDrain) await once(sink, "drain", { signal });
      }
    } catch (error) {
      broken = true;
      if (!signal.aborted && tries + 1 === TRIES) throw error;
    } finally {
      signal.removeEventListener("abort", onAbort);
      channels.stdout.end();
      channels.stderr.end();
      stream.destroy();
    }
    if (!broken || signal.aborted) return;
  }
}

/** Bytes that come in any pieces → lines; what is left at the end is one, too. */
function createLines(print: (line: string) => void): { write(bytes: Buffer): void; end(): void } {
  const decoder = new StringDecoder("utf8");
  let rest = "";
  return {
    write(bytes) {
      const lines = `${rest}${decoder.write(bytes)}`.split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) print(line);
      while (rest.length > MOST_LINE_CHARACTERS) {
        print(rest.slice(0, MOST_LINE_CHARACTERS));
        rest = rest.slice(MOST_LINE_CHARACTERS);
      }
    },
    end() {
      rest += decoder.end();
      if (rest !== "") print(rest);
      rest = "";
    },
  };
}
