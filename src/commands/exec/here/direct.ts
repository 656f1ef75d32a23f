import { Readable } from "node:stream";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Connections, Route } from "../../../coordinator/connection/connections.ts";
import { type Body, type Call, type Exchange, lengthOf } from "../../../coordinator/exchange.ts";
import { describeError } from "../../../errors.ts";
import type { LocalCoordinator } from "../../../local/coordinator/coordinator.ts";
import { unlessAborted } from "../../../time.ts";

type Answering = Pick<LocalCoordinator, "answer">;
type Answered = Awaited<ReturnType<LocalCoordinator["answer"]>>;

/**
 * The embedded coordinator is asked within this process, everybody else over the network: a small job is a dozen requests, and to
 * write and read each of them as HTTP took longer than to answer it.
 */
export function askingDirectly(
  coordinator: Answering & Pick<LocalCoordinator, "url">,
  outside: Connections,
): Connections {
  const { origin } = new URL(coordinator.url);
  const route: Route = {
    origin,
    isDirect: () => true,
    serverTls: {},
    async send(call, _repeatable, signal) {
      signal.throwIfAborted();
      const over = new AbortController();
      try {
        return await unlessAborted(exchange(coordinator, call, over.signal), signal);
      } finally {
        over.abort(signal.reason);
      }
    },
  };
  return {
    ...outside,
    route: (url, tls, isAvoided) => (url.origin === origin ? route : outside.route(url, tls, isAvoided)),
  };
}

/** Rejects with what the call's sink threw only. */
async function exchange(coordinator: Answering, call: Call, signal: AbortSignal): Promise<Exchange> {
  const { method, path, body } = call;
  const sent = open(body);
  const broken = (error: unknown): Exchange => ({
    kind: "broken",
    error: sent.problem() ?? (error instanceof Error ? error : new Error(describeError(error))),
    untouched: false,
  });
  // Whoever asks again and again leaves the rest of the process its turns.
  await nextTurn();
  let reply: Answered;
  try {
    const headers = body === undefined ? call.headers : [...call.headers, "content-length", String(lengthOf(body))];
    reply = await coordinator.answer({ method, path, headers, body: sent.content }, signal);
  } catch (error) {
    return broken(error);
  } finally {
    sent.close();
  }
  if (reply.hangUp === true) return broken(new Error("the coordinator hung up"));
  const { status, headers = {} } = reply;
  const chunks: Uint8Array[] = [];
  const isFile = status === 200 || (status === 206 && call.ranged === true);
  const take = (isFile ? call.sink : undefined) ?? ((chunk: Uint8Array) => void chunks.push(chunk));
  let unread: unknown;
  for await (const chunk of contentOf(reply, (error) => (unread = error))) await take(chunk);
  if (unread !== undefined) return broken(unread);
  const named = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
  return { kind: "answer", answer: { status, headers: named, body: Buffer.concat(chunks), cut: undefined } };
}

/** @param onFailure told why the content is not whole */
async function* contentOf({ body = "" }: Answered, onFailure: (error: unknown) => void): AsyncGenerator<Uint8Array> {
  if (!(body instanceof Readable)) {
    yield Buffer.from(body);
    return;
  }
  let broken: unknown;
  body.once("error", (error) => {
    broken = error;
    onFailure(error);
  });
  try {
    for await (const chunk of body) yield chunk instanceof Uint8Array ? chunk : Buffer.from(String(chunk));
  } catch (error) {
    if (broken === undefined) throw error;
  }
}

interface Sent {
  readonly content: Uint8Array | Readable | undefined;
  /** Why its stream broke, if it did. */
  problem(): Error | undefined;
  close(): void;
}

function open(body: Body | undefined): Sent {
  if (body === undefined || "bytes" in body)
    return { content: body?.bytes, problem: () => undefined, close: () => undefined };
  const content = body.open();
  let problem: Error | undefined;
  content.on("error", (error) => {
    problem = error;
  });
  return { content, problem: () => problem, close: () => void content.destroy() };
}
