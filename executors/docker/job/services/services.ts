import type { ContainerCreateOptions } from "dockerode";
import { describeError } from "../../../../src/errors.ts";
import type { Notes } from "../../../../src/executor/prepare.ts";
import { passOn } from "../../../common/notes.ts";
import { healthPorts, healthProbe } from "../../../images/health.ts";
import type { WantedService } from "../../../images/wanted.ts";
import type { RemoteCommands } from "../../../remote/index.ts";
import { addressesOf } from "../../container/addresses.ts";
import { createContainer, inspectState, startContainer } from "../../container/container.ts";
import { containerLog } from "../../container/service-log.ts";
import { runForText } from "../../engine/commands.ts";
import type { Engine } from "../../engine/engine.ts";
import type { ObtainedImage } from "../../image/image.ts";

/** A service whose container runs, or did. */
export interface RunningService {
  readonly id: string;
  readonly wanted: WantedService;
  readonly image: ObtainedImage;
  readonly names: readonly string[];
  /** `NAME=value` that its container was given, beside what its image says. */
  readonly env: readonly string[];
}

/**
 * Create and start the container of a service. What becomes of it then is seen when it is waited for.
 * @throws {SystemFailure} the daemon cannot create or start it
 */
export async function startService(
  engine: Engine,
  { wanted, image, names, env, body }: Omit<RunningService, "id"> & { readonly body: ContainerCreateOptions },
  signal: AbortSignal,
): Promise<RunningService> {
  const name = `the service ${wanted.name}`;
  const id = await createContainer(engine, name, body, signal);
  await startContainer(engine, id, name, signal);
  return { id, wanted, image, names, env };
}

/** Where a service can be reached from the other containers of its job; `null`: nowhere (any more). */
export async function addressOf(engine: Engine, service: RunningService, signal: AbortSignal): Promise<string | null> {
  const [address] = await addressesOf(engine, service.id, `the service ${service.wanted.name}`, signal);
  return address ?? null;
}

interface WaitOptions {
  readonly services: readonly RunningService[];
  /** `null`: do not wait. */
  readonly limitMs: number | null;
  /** Runs in the same network. */
  readonly helper: RemoteCommands;
  /** All containers of the job have one network of the host or of another container. */
  readonly loopback: boolean;
  readonly notes: Notes;
}

/** More time for the exec around the probe, which keeps to the limit by itself. */
const AROUND_MS = 10_000;

/** Wait until each service takes connections, dies, or has had its time. Whatever it is, the job goes on. */
export async function waitForServices(engine: Engine, options: WaitOptions, signal: AbortSignal): Promise<void> {
  const { services, limitMs, helper, loopback, notes } = options;
  if (services.length === 0 || limitMs === null) return;
  const waited = services.map(async (service) => {
    const { wanted, image } = service;
    const ports = healthPorts({ name: wanted.name, exposed: image.exposedPorts, env: [...image.env, ...service.env] });
    if (ports.length === 0) return null;
    const address = loopback ? "127.0.0.1" : await addressOf(engine, service, signal);
    if (address === null) return await trouble(engine, service, DIED, signal);
    const stop = new AbortController();
    const onAbort = (): void => stop.abort(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    const timer = setTimeout(() => stop.abort(new Error("no answer in time")), limitMs + AROUND_MS);
    // A dead service is not waited for.
    const watching = setInterval(() => {
      inspectState(engine, service.id, wanted.name, stop.signal).then(
        (state) => {
          if (state === null || !state.running) stop.abort(new Error(DIED));
        },
        () => {},
      );
    }, 1000);
    try {
      const { code } = await runForText(helper, healthProbe(address, ports, limitMs), stop.signal);
      if (code === 0) return null;
      const list = ports.join(", ");
      if (code === 2) {
        return {
          service,
          text: `Cannot tell whether the service ${wanted.name} is up: the helper image has no bash, nc or git`,
          log: "",
        };
      }
      const state = await inspectState(engine, service.id, wanted.name, signal);
      if (state === null || !state.running) return await trouble(engine, service, DIED, signal);
      return await trouble(
        engine,
        service,
        `nothing answers on port ${list} after ${limitMs / 1000} s (wait_for_services_timeout)`,
        signal,
      );
    } catch (error) {
      signal.throwIfAborted();
      const why = stop.signal.aborted ? describeError(stop.signal.reason) : describeError(error);
      return await trouble(engine, service, why, signal);
    } finally {
      clearTimeout(timer);
      clearInterval(watching);
      signal.removeEventListener("abort", onAbort);
    }
  });
  for (const one of waited) one.catch(() => {});
  for (const one of waited) {
    const found = await one;
    if (found === null) continue;
    notes.print(found.text, "warning");
    if (found.log !== "") passOn(notes, `${found.log}${found.log.endsWith("\n") ? "" : "\n"}`);
  }
}

const DIED = "it has ended";

interface Trouble {
  readonly service: RunningService;
  readonly text: string;
  readonly log: string;
}

async function trouble(engine: Engine, service: RunningService, why: string, signal: AbortSignal): Promise<Trouble> {
  const name = service.wanted.name;
  const state = await inspectState(engine, service.id, name, signal).catch(() => null);
  const status =
    state === null || state.running ? "" : state.outOfMemory ? " (out of memory)" : ` with status ${state.exitCode}`;
  const log = await containerLog(engine, service.id, signal).catch((error: unknown) => describeError(error));
  return {
    service,
    text: `The service ${name} probably did not start properly: ${why}${why === DIED ? status : ""}. The job goes on.${log === "" ? "" : " Its log:"}`,
    log,
  };
}
