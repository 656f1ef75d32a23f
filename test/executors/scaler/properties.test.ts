import fc from "fast-check";
import { expect, test } from "vitest";
import type { Scaler, ScalerSettings } from "../../../executors/scaler/decide/contract.ts";
import type { Ticket } from "../../../executors/scaler/decide/fleet.ts";
import type { Demand } from "../../../executors/scaler/decide/policy.ts";
import { createScaler } from "../../../executors/scaler/decide/scaler.ts";
import { type Cloud, openCloud } from "./cloud.ts";

/** What may happen, in any order: with polls, jobs, the cloud, and time. */
const happening = fc.oneof(
  { weight: 4, arbitrary: fc.constant({ does: "ask" } as const) },
  { weight: 3, arbitrary: fc.record({ does: fc.constant("arrive" as const), which: fc.nat(20) }) },
  { weight: 4, arbitrary: fc.record({ does: fc.constant("release" as const), which: fc.nat(20) }) },
  { weight: 4, arbitrary: fc.record({ does: fc.constant("pass" as const), ms: fc.integer({ min: 0, max: 90_000 }) }) },
  { weight: 3, arbitrary: fc.constant({ does: "finish" } as const) },
  { weight: 1, arbitrary: fc.record({ does: fc.constant("lose" as const), which: fc.nat(20) }) },
  { weight: 2, arbitrary: fc.record({ does: fc.constant("sicken" as const), which: fc.nat(20) }) },
  {
    weight: 1,
    arbitrary: fc.record({ does: fc.constant("weather" as const), refusing: fc.boolean(), broken: fc.boolean() }),
  },
);

const demand: fc.Arbitrary<Demand> = fc.record({
  idleLeast: fc.nat(4),
  idleMost: fc.nat(12),
  idleFactor: fc.constantFrom(0, 0.5, 2),
  idleTimeMs: fc.constantFrom(0, 20_000, 60_000),
  preemptive: fc.boolean(),
});

const settings: fc.Arbitrary<ScalerSettings> = fc.record({
  capacity: fc.integer({ min: 1, max: 5 }),
  maxUses: fc.constantFrom(Number.POSITIVE_INFINITY, 1, 3),
  maxInstances: fc.integer({ min: 1, max: 8 }),
  maxCreating: fc.constantFrom(Number.POSITIVE_INFINITY, 2),
  throttle: fc.constantFrom(null, { perSecond: 0.1, burst: 3 }),
  failureThreshold: fc.constantFrom(1, 2),
  removeAgainMs: fc.constant(60_000),
  policies: fc.constant([]),
  otherwise: demand,
});

interface World {
  readonly scaler: Scaler;
  readonly cloud: Cloud;
  readonly tickets: Set<Ticket>;
  pass(ms: number): void;
}

function open(given: ScalerSettings): World {
  let now = 0;
  const clock = { now: () => now, wall: () => Date.UTC(2026, 10, 30) + now };
  const inner = createScaler(given, clock);
  const tickets = new Set<Ticket>();
  /** When an instance last had a job, or became ready. */
  const busyUntil = new Map<string, number>();
  const ready = (id: string): void => {
    inner.ready(id);
    busyUntil.set(id, now);
  };

  const scaler: Scaler = {
    ...inner,
    ready,
    decide() {
      const held = new Map(inner.instances().map(({ id, jobs, asking }) => [id, { jobs, asking }]));
      const states = new Map(inner.instances().map(({ id, state }) => [id, state]));
      const decision = inner.decide();
      for (const { id, why } of decision.remove) {
        // Never one with a job or a reservation.
        expect(held.get(id), id).toEqual({ jobs: 0, asking: 0 });
        expect([...tickets].filter((ticket) => ticket.instance === id)).toEqual([]);
        if (why !== "nobody needs it" || states.get(id) === "removing") continue;
        // Idle time begins with the end of the last job.
        expect(now - (busyUntil.get(id) ?? now)).toBeGreaterThanOrEqual(given.otherwise.idleTimeMs);
        expect(decision.grow).toBe(0);
      }
      const { grow, inputs } = decision;
      if (grow > 0) expect(inputs.instances + grow).toBeLessThanOrEqual(given.maxInstances);
      // A question is no demand.
      if (grow > 0 && !inputs.failing)
        expect(inputs.waiting + inputs.idle).toBeGreaterThan(inputs.ready + inputs.coming);
      return decision;
    },
  };
  const cloud = openCloud(scaler);
  return {
    scaler,
    cloud,
    tickets,
    pass(ms) {
      for (const { instance, state } of tickets)
        if (instance !== null && state === "working") busyUntil.set(instance, now);
      now += ms;
      for (const { instance, state } of tickets)
        if (instance !== null && state === "working") busyUntil.set(instance, now);
      cloud.tick();
    },
  };
}

function pick<T>(of: Iterable<T>, which: number): T | undefined {
  const list = [...of];
  return list[which % Math.max(1, list.length)];
}

type Happening = typeof happening extends fc.Arbitrary<infer E> ? E : never;

function happen({ scaler, cloud, tickets, pass }: World, event: Happening): void {
  switch (event.does) {
    case "ask": {
      const room = scaler.hasRoom();
      const { preemptive } = scaler.inputs();
      const ticket = scaler.reserve();
      expect(ticket !== null).toBe(room);
      if (ticket === null) return;
      if (preemptive) expect(ticket.instance).not.toBeNull();
      tickets.add(ticket);
      return;
    }
    case "arrive": {
      const ticket = pick(tickets, event.which);
      const { instance = null, state = "asking" } = ticket ?? {};
      if (ticket === undefined) return;
      scaler.arrive(ticket);
      // What was reserved is had.
      if (state === "asking" && instance !== null) expect(ticket).toMatchObject({ state: "working", instance });
      return;
    }
    case "release": {
      const ticket = pick(tickets, event.which);
      if (ticket === undefined) return;
      tickets.delete(ticket);
      scaler.release(ticket);
      expect(ticket).toEqual({ state: "over", instance: null });
      return;
    }
    case "pass":
      pass(event.ms);
      return;
    case "finish":
      cloud.finish();
      return;
    case "lose":
      cloud.lose(pick(cloud.ids(), event.which) ?? "");
      return;
    case "sicken":
      scaler.checked(pick(cloud.ids(), event.which) ?? "", false);
      return;
    case "weather":
      cloud.refusing = event.refusing;
      cloud.broken = event.broken;
  }
}

function mustHold({ scaler, tickets }: World, { capacity, maxUses, maxInstances }: ScalerSettings): void {
  expect(scaler.inputs().instances).toBeLessThanOrEqual(maxInstances);
  for (const { id, jobs, asking, uses } of scaler.instances()) {
    expect(jobs + asking).toBeLessThanOrEqual(capacity);
    expect(uses).toBeLessThanOrEqual(maxUses);
    const holders = [...tickets].filter(({ instance }) => instance === id);
    expect(holders.filter(({ state }) => state === "working")).toHaveLength(jobs);
    expect(holders.filter(({ state }) => state === "asking")).toHaveLength(asking);
  }
  const { asking, waiting, working } = scaler.inputs();
  const count = (state: Ticket["state"]): number => [...tickets].filter((ticket) => ticket.state === state).length;
  expect({ asking, waiting, working }).toEqual({
    asking: count("asking"),
    waiting: count("waiting"),
    working: count("working"),
  });
}

/** A cloud that does as it should, for as long. */
function calm({ cloud, pass }: World, ms: number): void {
  cloud.refusing = false;
  cloud.broken = false;
  for (let passed = 0; passed < ms; passed += 5000) {
    cloud.finish();
    pass(5000);
  }
}

const LONG_MS = 1_200_000;

test("whatever happens: no instance with a job or a reservation is removed, no limit is passed, and all is counted right", () => {
  fc.assert(
    fc.property(settings, fc.array(happening, { maxLength: 80, size: "max" }), (given, events) => {
      const world = open(given);
      for (const event of events) {
        happen(world, event);
        mustHold(world, given);
      }
    }),
    { numRuns: 250 },
  );
});

test("whatever has happened: every job that waits gets a slot once the cloud is well and others have ended", () => {
  fc.assert(
    fc.property(settings, fc.array(happening, { maxLength: 60, size: "max" }), (given, events) => {
      const world = open(given);
      for (const event of events) happen(world, event);
      for (let round = 0; world.tickets.size > 0; round++) {
        expect(round).toBeLessThan(200);
        calm(world, 5000);
        // Those that have lost their instance are prepared once more.
        for (const ticket of world.tickets) world.scaler.arrive(ticket);
        calm(world, 600_000);
        const working = [...world.tickets].filter(({ state }) => state === "working");
        expect(working.length).toBeGreaterThan(0);
        for (const ticket of working) {
          world.tickets.delete(ticket);
          world.scaler.release(ticket);
        }
      }
    }),
    { numRuns: 150 },
  );
});

test("whatever has happened: without jobs it comes to the idle count, and then nothing is made or removed any more", () => {
  fc.assert(
    fc.property(settings, fc.array(happening, { maxLength: 60, size: "max" }), (given, events) => {
      const world = open(given);
      for (const event of events) happen(world, event);
      for (const ticket of world.tickets) world.scaler.release(ticket);
      world.tickets.clear();
      calm(world, LONG_MS);
      const { idleLeast } = given.otherwise;
      const slots = Math.min(given.capacity, given.maxUses);
      const { ready, instances } = world.scaler.inputs();
      const wanted = Math.min(Math.ceil(idleLeast / slots), given.maxInstances);
      // Some may have had jobs, and then fewer left to have.
      expect(instances).toBeGreaterThanOrEqual(wanted);
      if (given.maxUses === Number.POSITIVE_INFINITY) expect(instances).toBe(wanted);
      expect(ready).toBeGreaterThanOrEqual(Math.min(idleLeast, wanted * slots > idleLeast ? idleLeast : ready));
      const before = { made: world.cloud.made, removed: world.cloud.removed.length };
      calm(world, LONG_MS);
      expect({ made: world.cloud.made, removed: world.cloud.removed.length }).toEqual(before);
    }),
    { numRuns: 200 },
  );
});
