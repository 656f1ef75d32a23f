import type { Clock, Inputs, Scaler, ScalerSettings, Seen } from "./contract.ts";
import {
  bestFor,
  createInstance,
  type MutableInstance,
  type MutableTicket,
  slotsWithoutJob,
  type Ticket,
} from "./fleet.ts";
import { createGrowth } from "./growth.ts";
import { slotsOfOne, slotsToCome, superfluous, wantedInstances } from "./need.ts";
import { createDemand, idleFor } from "./policy.ts";

/** A provider that took up a request and shows nothing of it for so long has lost it. */
const LOST_REQUEST_MS = 600_000;
/** How long a question that was not asked counts as demand, where only a trial tells whether instances can be made again. */
const WANTED_MS = 120_000;

export function createScaler(given: ScalerSettings, clock: Clock): Scaler {
  let settings = given;
  let demandAt = createDemand(given.policies, given.otherwise);
  const growth = createGrowth(given.throttle);
  const fleet = new Map<string, MutableInstance>();
  /** By themselves: whoever has one sees less of it. */
  const tickets = new Map<Ticket, MutableTicket>();
  /** Jobs that wait, in the order of their coming. */
  const queue = new Set<MutableTicket>();
  /** When each instance was asked for that has not been seen yet. */
  let requested: number[] = [];
  let unboundAsking = 0;
  let wantedAt = Number.NEGATIVE_INFINITY;

  const bind = (ticket: MutableTicket, one: MutableInstance): void => {
    one.tickets.add(ticket);
    ticket.instance = one.id;
    if (ticket.state === "asking") one.asking++;
    else {
      ticket.state = "working";
      one.jobs++;
      one.uses++;
      one.unwanted = false;
    }
  };

  const serve = (): void => {
    for (const ticket of queue) {
      const one = bestFor(fleet.values(), settings, { unwantedToo: true });
      if (one === null) return;
      queue.delete(ticket);
      bind(ticket, one);
    }
  };

  /** Questions get their slots elsewhere; jobs stay, or are lost with it. */
  const dismiss = (one: MutableInstance, whom: "questions" | "all"): void => {
    for (const ticket of one.tickets) {
      if (ticket.state === "asking") {
        one.asking--;
        unboundAsking++;
        ticket.instance = null;
      } else if (whom === "all") {
        ticket.state = "lost";
        ticket.instance = null;
      } else continue;
      one.tickets.delete(ticket);
    }
  };

  const drain = (one: MutableInstance, why: string): void => {
    if (one.state === "removing" || one.state === "draining") return;
    one.state = "draining";
    one.why = why;
    dismiss(one, "questions");
  };

  const forget = (one: MutableInstance): void => {
    if (one.state === "creating" || one.state === "checking") growth.failed(clock.now());
    dismiss(one, "all");
    fleet.delete(one.id);
  };

  const discard = (one: MutableInstance, why: string): void => {
    if (one.state === "creating" || one.state === "checking") growth.failed(clock.now());
    drain(one, why);
  };

  /** One that was asked for shows for the first time. @returns `null`: nobody has asked for it */
  const begin = (id: string, state: Seen["state"]): MutableInstance | null => {
    if (requested.shift() === undefined) return null;
    const one = createInstance(id, state === "running" ? "checking" : "creating", clock.now());
    fleet.set(id, one);
    return one;
  };

  const inputs = (): Inputs => {
    let ready = 0;
    let made = requested.length;
    let working = 0;
    let asking = unboundAsking;
    for (const one of fleet.values()) {
      working += one.jobs;
      asking += one.asking;
      if (one.state === "creating" || one.state === "checking") made++;
      else ready += slotsWithoutJob(one, settings);
    }
    const demand = demandAt(clock.wall());
    return {
      instances: fleet.size + requested.length,
      maxInstances: settings.maxInstances,
      capacity: settings.capacity,
      working,
      waiting: queue.size,
      asking,
      ready,
      coming: made * slotsOfOne(settings),
      idle: idleFor(demand, working + queue.size),
      preemptive: demand.preemptive,
      failing: growth.failing,
    };
  };

  const hasRoom = (): boolean => {
    if (bestFor(fleet.values(), settings, { unwantedToo: false }) !== null) return true;
    const now = inputs();
    return !now.preemptive && !now.failing && slotsToCome(now, settings) > unboundAsking;
  };

  /** What nobody needs any more, and what cannot be used. */
  const retire = (now: Inputs): void => {
    for (const one of fleet.values()) {
      one.unwanted = false;
      if (one.state === "ready" && one.uses >= settings.maxUses) drain(one, `it has had ${one.uses} jobs`);
    }
    const { idleTimeMs } = demandAt(clock.wall());
    for (const { one, why } of superfluous([...fleet.values()], now, { settings, idleTimeMs, at: clock.now() })) {
      // A question that is under way keeps it, but no other one.
      if (one.asking > 0) one.unwanted = true;
      else drain(one, why);
    }
  };

  return {
    reserve() {
      const one = bestFor(fleet.values(), settings, { unwantedToo: false });
      if (one === null && !hasRoom()) {
        wantedAt = clock.now();
        return null;
      }
      const ticket: MutableTicket = { state: "asking", instance: null };
      tickets.set(ticket, ticket);
      if (one === null) unboundAsking++;
      else bind(ticket, one);
      return ticket;
    },
    arrive(given) {
      const ticket = tickets.get(given);
      if (ticket === undefined || ticket.state === "waiting" || ticket.state === "working") return;
      const one = ticket.instance === null ? undefined : fleet.get(ticket.instance);
      const asked = ticket.state === "asking";
      ticket.state = "waiting";
      if (one !== undefined) {
        one.asking--;
        bind(ticket, one);
        return;
      }
      if (asked) unboundAsking--;
      queue.add(ticket);
      serve();
    },
    refuse(given) {
      const ticket = tickets.get(given);
      const one = ticket?.instance == null ? undefined : fleet.get(ticket.instance);
      if (ticket?.state !== "working" || one === undefined) return;
      one.tickets.delete(ticket);
      one.jobs--;
      one.uses--;
      ticket.state = "lost";
      ticket.instance = null;
    },
    release(given) {
      const ticket = tickets.get(given);
      if (ticket === undefined) return;
      const one = ticket.instance === null ? undefined : fleet.get(ticket.instance);
      if (one !== undefined) {
        one.tickets.delete(ticket);
        if (ticket.state === "asking") one.asking--;
        else {
          one.jobs--;
          one.idleSince = clock.now();
        }
      } else if (ticket.state === "asking") unboundAsking--;
      tickets.delete(ticket);
      queue.delete(ticket);
      ticket.state = "over";
      ticket.instance = null;
      serve();
    },

    observe(seen) {
      const strangers: Seen[] = [];
      const there = new Set<string>();
      for (const { id, state } of seen) {
        if (state === "deleted") continue;
        there.add(id);
        if (state === "deleting" && !fleet.has(id)) continue;
        if (!fleet.has(id) && requested.length === 0) strangers.push({ id, state });
        const one = fleet.get(id) ?? begin(id, state);
        if (one === null) continue;
        if (state === "failed") discard(one, "it could not be made");
        else if (state === "deleting" && one.state !== "removing") {
          drain(one, "it is removed by somebody else");
          one.state = "removing";
          one.removeAgainAt = Number.POSITIVE_INFINITY;
        } else if (state === "running" && one.state === "creating") {
          one.state = "checking";
          one.idleSince = clock.now();
        }
      }
      for (const one of [...fleet.values()]) if (!there.has(one.id)) forget(one);
      return strangers;
    },
    grown(asked, taken) {
      // Those that have been seen meanwhile were taken up, whatever is said of them.
      requested.length = Math.max(0, requested.length - (asked - taken));
      if (taken < asked) growth.failed(clock.now());
    },
    adopt({ id, state }, { uses, idleSince }) {
      if (fleet.has(id)) return;
      const one = { ...createInstance(id, state === "running" ? "checking" : "creating", idleSince), uses };
      fleet.set(id, one);
      if (state === "failed") drain(one, "it could not be made");
    },
    ready(id) {
      const one = fleet.get(id);
      if (one?.state !== "checking" && one?.state !== "creating") return;
      one.state = "ready";
      growth.worked();
      serve();
    },
    discard(id, why) {
      const one = fleet.get(id);
      if (one !== undefined) discard(one, why);
    },
    checked(id, healthy) {
      const one = fleet.get(id);
      if (one?.state !== "ready") return;
      one.failures = healthy ? 0 : one.failures + 1;
      if (one.failures >= settings.failureThreshold) drain(one, `${one.failures} checks in a row failed`);
    },

    decide(mode = "usual") {
      const now = clock.now();
      requested = requested.filter((at) => now - at < LOST_REQUEST_MS);
      serve();
      const counted = inputs();
      const needed = mode === "usual" ? counted : { ...counted, idle: 0 };
      const grow = growth.grant(wantedInstances(needed, settings, now - wantedAt < WANTED_MS), now);
      growth.spend(grow);
      for (let i = 0; i < grow; i++) requested.push(now);
      retire(counted);
      const remove: { id: string; why: string }[] = [];
      for (const one of fleet.values()) {
        const due = one.state === "draining" ? one.jobs === 0 : one.state === "removing" && now >= one.removeAgainAt;
        if (!due) continue;
        one.state = "removing";
        one.removeAgainAt = now + settings.removeAgainMs;
        remove.push({ id: one.id, why: one.why });
      }
      return { grow, remove, inputs: counted };
    },
    hasRoom,
    configure(next) {
      settings = next;
      demandAt = createDemand(next.policies, next.otherwise);
      growth.configure(next.throttle);
    },
    instance: (id) => fleet.get(id) ?? null,
    instances: () => [...fleet.values()],
    inputs,
  };
}
