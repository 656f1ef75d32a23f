import { describeError, SystemFailure } from "../../../src/errors.ts";
import type { Reservation } from "../../../src/executor/prepare.ts";
import { deadline, pause, unlessAborted } from "../../../src/time.ts";
import type { Clock } from "../decide/contract.ts";
import type { Ticket } from "../decide/fleet.ts";
import { createScaler } from "../decide/scaler.ts";
import { createChecks } from "./checks.ts";
import type { Lease, Place, Pool, PoolOptions } from "./contract.ts";
import { createDurations } from "./durations.ts";
import { createPast } from "./past.ts";
import { placeAt } from "./place.ts";

const clock: Clock = { now: () => performance.now(), wall: () => Date.now() };
const CALL_MS = 120_000;

interface Active<C> {
  readonly ticket: Ticket;
  lost: AbortController;
  place: Place<C> | null;
}

export function createPool<C>(options: PoolOptions<C>): Pool<C> {
  const { provider, log, word, events = {} } = options;
  const anyOne = `${/^[aeiou]/.test(word) ? "an" : "a"} ${word}`;
  let settings = options.settings;
  const scaler = createScaler(settings, clock);
  const past = createPast(options.dir, clock);
  const durations = createDurations(events, clock.now);
  const closing = new AbortController();
  const leases = new WeakMap<Reservation, Lease<C>>();
  const active = new Set<Active<C>>();
  /** Resolved with each change. */
  let change = Promise.withResolvers<void>();
  let wake = (): void => {};
  let refused = false;
  let starting: Promise<void> | null = null;
  let timer: NodeJS.Timeout | undefined;
  let updating: Promise<void> | null = null;
  let again = false;
  let troubled = false;
  /** Of whoever asked last for a slot: when it fires, nobody asks any more. */
  let asking: AbortSignal | null = null;

  const checks = createChecks({
    provider,
    scaler,
    everyMs: () => settings.checkMs,
    hopeless: () => settings.failureThreshold * 2,
    changed: () => poke(),
    dead: (id, failure) => {
      for (const one of active) if (one.place?.id === id) one.lost.abort(failure);
    },
  });

  /** Tells everybody who waits. */
  const settle = (): void => {
    durations.look(scaler.instances());
    for (const { ticket, place, lost } of active) {
      if (ticket.state !== "lost" || place === null) continue;
      lost.abort(new SystemFailure(`The ${word} ${place.id} is gone`, { retry: true }));
    }
    change.resolve();
    change = Promise.withResolvers();
    if (refused && scaler.hasRoom()) {
      refused = false;
      wake();
    }
  };

  const bounded = async <T>(what: string, work: (signal: AbortSignal) => Promise<T>): Promise<T> => {
    const failure = new SystemFailure(`${what} takes longer than ${CALL_MS / 1000} s`, { retry: true });
    using limit = deadline(closing.signal, CALL_MS, failure);
    return await unlessAborted(work(limit.signal), limit.signal);
  };

  const act = async (): Promise<void> => {
    const { grow, remove, inputs } = scaler.decide(asking?.aborted === true ? "forJobs" : "usual");
    if (grow > 0 || remove.length > 0) {
      log.info("scaling", { grow, remove: remove.length, ...inputs });
      for (const { id, why } of remove) log.info(`${anyOne} is removed`, { [word]: id, why });
    }
    if (remove.length > 0) {
      for (const _ of remove) events.removed?.();
      await bounded("removing", (signal) =>
        provider.shrink(
          remove.map(({ id }) => id),
          signal,
        ),
      );
    }
    if (grow === 0) return;
    let taken = 0;
    const askedAt = clock.now();
    try {
      taken = await bounded("asking for more", (signal) => provider.grow(grow, signal));
    } finally {
      scaler.grown(grow, taken);
      durations.asked(taken, askedAt);
    }
    if (taken < grow) log.warn(`fewer ${word}s are made than were asked for`, { asked: grow, taken });
    observe(await bounded("listing", (signal) => provider.list(signal)));
  };

  const observe = (seen: Awaited<ReturnType<typeof provider.list>>): void => {
    for (const stranger of scaler.observe(seen)) {
      scaler.adopt(stranger, past.of(stranger.id) ?? { uses: 1, idleSince: clock.now() });
    }
    durations.look(scaler.instances());
  };

  const update = async (): Promise<void> => {
    try {
      observe(await bounded("listing", (signal) => provider.list(signal)));
      checks.look(clock.now(), closing.signal);
      await act();
      checks.look(clock.now(), closing.signal);
      if (troubled) log.info(`${word}s can be asked for again`);
      troubled = false;
    } catch (error) {
      if (closing.signal.aborted) return;
      if (!troubled) log.error(`cannot look after ${word}s; it is tried again`, { problem: describeError(error) });
      troubled = true;
    } finally {
      settle();
    }
  };

  const expecting = (): boolean => {
    const { waiting, coming } = scaler.inputs();
    return waiting > 0 || coming > 0 || scaler.instances().some(({ state }) => state === "removing");
  };

  const poke = (): void => {
    if (starting === null || closing.signal.aborted) return;
    if (updating !== null) {
      again = true;
      return;
    }
    clearTimeout(timer);
    updating = update().finally(() => {
      updating = null;
      if (closing.signal.aborted) return;
      const soon = again && !troubled;
      again = false;
      timer = setTimeout(poke, soon ? 0 : expecting() && !troubled ? settings.updateSoonMs : settings.updateMs);
      timer.unref();
    });
  };

  const start = async (signal: AbortSignal): Promise<void> => {
    starting ??= (async () => {
      await past.load();
      await provider.init(closing.signal);
      observe(await provider.list(closing.signal));
    })();
    const mine = starting;
    try {
      await unlessAborted(mine, signal);
    } catch (error) {
      if (!signal.aborted && starting === mine) starting = null;
      throw error;
    }
    if (timer === undefined && updating === null) poke();
  };

  const save = async (): Promise<void> => {
    await past.save(scaler.instances()).catch((error: unknown) => {
      throw new SystemFailure(`Cannot keep what is known of ${word}s in ${options.dir}`, { cause: error, retry: true });
    });
  };

  const leaseOf = (ticket: Ticket): Lease<C> => {
    const one: Active<C> = { ticket, lost: new AbortController(), place: null };
    active.add(one);
    const lease: Lease<C> = {
      get name() {
        return ticket.instance ?? `${anyOne} that is made for it`;
      },
      take: (signal) => take(one, signal),
      async [Symbol.asyncDispose]() {
        if (!active.delete(one)) return;
        scaler.release(ticket);
        settle();
        poke();
        if (one.place !== null) await save();
      },
    };
    leases.set(lease, lease);
    return lease;
  };

  const gone = (id: string, why: string): void => {
    scaler.discard(id, why);
    poke();
  };

  const take = async (one: Active<C>, outer: AbortSignal): Promise<Place<C>> => {
    const { ticket } = one;
    const begin = clock.now();
    const tooLong = new SystemFailure(
      `No ${word} became ready within ${Math.round(settings.acquireTimeoutMs / 1000)} s: the runner's log says why`,
      { retry: false },
    );
    using limit = deadline(outer, settings.acquireTimeoutMs, tooLong);
    for (;;) {
      limit.signal.throwIfAborted();
      const { state } = ticket;
      scaler.arrive(ticket);
      const id = ticket.instance;
      if (id === null) {
        // Once: what it waits for comes with an update of its own.
        if (state !== "waiting") poke();
        await unlessAborted(change.promise, limit.signal);
        continue;
      }
      try {
        if (one.place?.id === id && one.lost.signal.aborted) throw one.lost.signal.reason;
        const connection = await checks.beforeJob(id, clock.now(), limit.signal);
        if (one.place?.id !== id) {
          events.used?.(clock.now() - begin);
          // What was lost with another one is lost no more.
          if (one.lost.signal.aborted) one.lost = new AbortController();
          one.place = placeAt({ id, word, connection, lost: one.lost }, { provider, gone });
        }
      } catch (error) {
        limit.signal.throwIfAborted();
        log.warn(`a job finds its ${word} unusable and gets another one`, {
          [word]: id,
          problem: describeError(error),
        });
        one.place = null;
        scaler.refuse(ticket);
        scaler.discard(id, `it does not answer when a job comes: ${describeError(error)}`);
        continue;
      }
      // Its use is on disk before its job begins.
      await save();
      poke();
      return one.place;
    }
  };

  /** What is about to be removed, or is being removed, is waited for, too: there may be no next process that does so. */
  const withoutJob = (): string[] => {
    const kept = new Set(["creating", "checking"]);
    return scaler.instances().flatMap(({ id, state, jobs }) => (jobs === 0 && !kept.has(state) ? [id] : []));
  };

  const removeAll = async (signal: AbortSignal): Promise<void> => {
    const ids = withoutJob();
    if (ids.length > 0) log.info(`idle ${word}s are removed, since the runner ends`, { remove: ids.length });
    await provider.shrink(ids, signal);
    while ((await provider.list(signal)).some(({ id }) => ids.includes(id))) await pause(200, signal);
  };

  return {
    async reserve(signal) {
      asking = signal;
      await start(signal);
      const ticket = scaler.reserve();
      if (ticket !== null) return leaseOf(ticket);
      refused = true;
      poke();
      return null;
    },
    async lease(signal) {
      await start(signal);
      for (poke(); ; ) {
        const ticket = scaler.reserve();
        if (ticket !== null) return leaseOf(ticket);
        await unlessAborted(change.promise, signal);
      }
    },
    leaseOf: (reservation) => (reservation === undefined ? undefined : leases.get(reservation)),
    onRoom: (given) => {
      wake = given;
    },
    configure(next) {
      settings = next;
      scaler.configure(next);
      poke();
    },
    instances: () => scaler.instances(),
    inputs: () => scaler.inputs(),
    async close(signal) {
      clearTimeout(timer);
      if (starting === null) return;
      await starting.catch(() => {});
      closing.abort(new SystemFailure("the executor is closed"));
      await updating;
      if (settings.removeOnClose) {
        await removeAll(signal).catch((error: unknown) => {
          log.error(`not all ${word}s could be removed before the end`, { problem: describeError(error) });
        });
      }
      await provider.close(signal);
    },
  };
}
