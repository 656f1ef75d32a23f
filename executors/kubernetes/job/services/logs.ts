import { once } from "node:events";
import type { Notes } from "../../../../src/executor/prepare.ts";
import { pause } from "../../../../src/time.ts";
import { passOn } from "../../../common/notes.ts";
import type { Api } from "../../api/client.ts";
import { containerOf, type Pod, podsPath } from "../../api/pods.ts";
import { ApiFailure } from "../../api/status.ts";

export interface FollowOptions {
  readonly api: Api;
  readonly namespace: string;
  readonly pod: string;
  readonly services: readonly { readonly name: string; readonly container: string }[];
  /** The pod as it was last seen. */
  look(): Pod | null | undefined;
  readonly notes: Notes;
  /** Another process has passed on what was printed before. */
  readonly since?: Date;
}

const AGAIN_MS = 500;
/** Longer lines are passed on in pieces. */
const MOST_LINE_BYTES = 64 * 1024;

/** What services print goes into the trace as it comes, each line with its service. @returns how to stop, once nothing more is written */
export function followServices(options: FollowOptions): () => Promise<void> {
  const over = new AbortController();
  const following = options.services.map((service) => follow(options, service, over.signal).catch(() => {}));
  return async () => {
    over.abort(new Error("the job is over"));
    await Promise.all(following);
  };
}

async function follow(
  { api, namespace, pod, look, notes, since }: FollowOptions,
  { name, container }: FollowOptions["services"][number],
  signal: AbortSignal,
): Promise<void> {
  let last = since?.toISOString() ?? "";
  const print = async (line: string, after: string): Promise<void> => {
    const [, time = "", text = ""] = /^(\S+) (.*)$/s.exec(line) ?? [];
    // After a break the log is asked for by a time in whole seconds, so it begins with lines that were seen already.
    if (time !== "" && time <= after) return;
    last = time || last;
    const sink = notes.services ?? notes.stream;
    passOn({ ...notes, stream: sink }, `[service:${name}] ${text}\n`);
    if (sink.writableNeedDrain) await once(sink, "drain", { signal });
  };
  for (;;) {
    const after = last;
    const query = { container, follow: "true", timestamps: "true", ...(after === "" ? {} : { sinceTime: after }) };
    const call = { what: "read a log", method: "GET", path: `${podsPath(namespace, pod)}/log`, query } as const;
    const ended = Boolean(stateOf(look(), container)?.terminated);
    try {
      const stream = await api.stream(call, signal);
      const onAbort = (): void => void stream.destroy();
      signal.addEventListener("abort", onAbort, { once: true });
      try {
        let rest = "";
        for await (const chunk of stream.setEncoding("utf8")) {
          const lines = `${rest}${chunk}`.split("\n");
          rest = lines.pop() ?? "";
          for (const line of lines) await print(line, after);
          if (rest.length <= MOST_LINE_BYTES) continue;
          await print(rest, after);
          rest = "";
        }
        if (rest !== "") await print(rest, after);
      } finally {
        signal.removeEventListener("abort", onAbort);
        stream.destroy();
      }
      if (ended) return;
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof ApiFailure && error.status === 403) {
        notes.print(`CI_DEBUG_SERVICES: the runner may not read the log of ${name}: ${error.said}`, "warning");
        return;
      }
      if (error instanceof ApiFailure && error.status === 404) return;
    }
    await pause(AGAIN_MS, signal);
  }
}

function stateOf(pod: Pod | null | undefined, container: string) {
  return pod === null || pod === undefined ? undefined : containerOf(pod, container)?.state;
}
