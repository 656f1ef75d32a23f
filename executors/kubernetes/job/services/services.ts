import { describeError } from "../../../../src/errors.ts";
import type { Notes } from "../../../../src/executor/prepare.ts";
import { deadline, pause, unlessAborted } from "../../../../src/time.ts";
import { passOn } from "../../../common/notes.ts";
import { healthPorts, healthProbe } from "../../../images/health.ts";
import { type RemoteCommands, runToEnd } from "../../../remote/index.ts";
import type { Api } from "../../api/client.ts";
import { containerOf, logOf, type Pod } from "../../api/pods.ts";
import type { PodService } from "../../pod/pod.ts";

export interface WaitOptions {
  readonly api: Api;
  readonly namespace: string;
  readonly pod: string;
  /** The services, with the names of their containers. */
  readonly services: readonly (PodService & { readonly container: string })[];
  /** `null`: do not wait. */
  readonly limitMs: number | null;
  readonly helper: RemoteCommands;
  look(): Pod | null | undefined;
  readonly notes: Notes;
}

const AROUND_MS = 10_000;
const LOOK_MS = 200;
const END_LOOK_MS = 500;

/**
 * Waits until each service takes connections, dies, or has had its time. The job goes on in each case.
 * @returns those that nothing is wrong with so far
 */
export async function waitForServices(options: WaitOptions, signal: AbortSignal): Promise<WaitOptions["services"]> {
  const { services, limitMs, notes } = options;
  if (limitMs === null) return services;
  const fine: WaitOptions["services"][number][] = [];
  const waited = services.map((service) => troubleOf(options, service, limitMs, signal));
  for (const one of waited) one.catch(() => {});
  for (const [index, service] of services.entries()) {
    const found = await waited[index];
    if (found === null || found === undefined) fine.push(service);
    else say(notes, found);
  }
  return fine;
}

export interface TellOptions extends Omit<WaitOptions, "limitMs" | "helper" | "services"> {
  readonly services: readonly { readonly name: string; readonly container: string }[];
  /** Another process has told of what ended before. */
  readonly since?: Date;
}

/** Tells of each service that ends while the job goes on, with the end of its log. @returns how to stop, once nothing more is written */
export function tellOfEnds({ since, ...options }: TellOptions): () => Promise<void> {
  const over = new AbortController();
  const tell = async ({ name, container }: TellOptions["services"][number]): Promise<void> => {
    let ended: string | null = null;
    // The watch of pods keeps what is looked at: the cluster is not asked.
    for (; ended === null; ended = endOf(options.look(), container)) await pause(END_LOOK_MS, over.signal);
    if (since !== undefined && endedBefore(options.look(), container, since)) return;
    const { log, hint } = await complaintOf(options, container, over.signal);
    const text = `The service ${name} is gone: ${ended}.${hint} The job goes on.${log === "" ? "" : " Its log:"}`;
    say(options.notes, { text, log });
  };
  const telling = options.services.map((service) => tell(service).catch(() => {}));
  return async () => {
    over.abort(new Error("the job is over"));
    await Promise.all(telling);
  };
}

interface Trouble {
  readonly text: string;
  readonly log: string;
}

function say(notes: Notes, { text, log }: Trouble): void {
  notes.print(text, "warning");
  // Beside what scripts print, where one runs.
  passOn({ ...notes, stream: notes.services ?? notes.stream }, log.endsWith("\n") || log === "" ? log : `${log}\n`);
}

async function complaintOf(
  { api, namespace, pod }: Pick<WaitOptions, "api" | "namespace" | "pod">,
  container: string,
  signal: AbortSignal,
): Promise<{ readonly log: string; readonly hint: string }> {
  const log = await logOf(api, { namespace, pod, container }, signal);
  const inUse = /address already in use/i.test(log);
  return { log, hint: inUse ? " All services of a job share one network: two cannot have one port." : "" };
}

/** What its containers' state says of its end, or `null` while it runs. */
function endOf(pod: Pod | null | undefined, container: string): string | null {
  const ended = pod === null || pod === undefined ? null : containerOf(pod, container)?.state?.terminated;
  if (ended === null || ended === undefined) return null;
  return ended.reason === "OOMKilled" ? "it has ended (out of memory)" : `it has ended with status ${ended.exitCode}`;
}

function endedBefore(pod: Pod | null | undefined, container: string, since: Date): boolean {
  const at = pod === null || pod === undefined ? null : containerOf(pod, container)?.state?.terminated?.finishedAt;
  return typeof at === "string" && Date.parse(at) < since.getTime();
}

async function troubleOf(
  { helper, look, ...place }: WaitOptions,
  service: WaitOptions["services"][number],
  limitMs: number,
  signal: AbortSignal,
): Promise<Trouble | null> {
  const { wanted, container } = service;
  const describe = async (why: string) => {
    const { log, hint } = await complaintOf(place, container, signal);
    return {
      text: `The service ${wanted.name} probably did not start properly: ${why}.${hint} The job goes on.${log === "" ? "" : " Its log:"}`,
      log,
    };
  };
  const ports = healthPorts({ name: wanted.name, exposed: [], env: service.env });
  if (ports.length === 0) {
    const ended = endOf(look(), container);
    return ended === null ? null : await describe(ended);
  }
  using limit = deadline(signal, limitMs + AROUND_MS, new Error("nothing could be found out in time"));
  const stop = new AbortController();
  const asking = AbortSignal.any([limit.signal, stop.signal]);
  const dying = (async (): Promise<string> => {
    for (;;) {
      const ended = endOf(look(), container);
      if (ended !== null) return ended;
      await pause(LOOK_MS, asking);
    }
  })();
  dying.catch(() => {});
  try {
    const probing = runToEnd(helper, healthProbe("127.0.0.1", ports, limitMs), 64 * 1024, asking);
    probing.catch(() => {});
    const result = await unlessAborted(Promise.race([probing, dying]), limit.signal);
    if (typeof result === "string") return await describe(result);
    if (result.code === 0) return null;
    if (result.code === 2) {
      return {
        text: `Cannot tell whether the service ${wanted.name} is up: the helper image has no bash, nc or git`,
        log: "",
      };
    }
    return await describe(
      `nothing answers on port ${ports.join(", ")} after ${limitMs / 1000} s (wait_for_services_timeout)`,
    );
  } catch (error) {
    signal.throwIfAborted();
    return await describe(describeError(error));
  } finally {
    stop.abort(new Error("no longer waited for"));
  }
}
