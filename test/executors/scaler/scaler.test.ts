import { expect, test } from "vitest";
import type { ScalerSettings } from "../../../executors/scaler/decide/contract.ts";
import type { Demand } from "../../../executors/scaler/decide/policy.ts";
import { createScaler } from "../../../executors/scaler/decide/scaler.ts";
import { openCloud } from "./cloud.ts";

const onDemand: Demand = { idleLeast: 0, idleMost: 0, idleFactor: 0, idleTimeMs: 60_000, preemptive: false };
const keep = (idle: number): Demand => ({ ...onDemand, idleLeast: idle, idleMost: idle, preemptive: true });

const base: ScalerSettings = {
  capacity: 1,
  maxUses: Number.POSITIVE_INFINITY,
  maxInstances: 10,
  maxCreating: Number.POSITIVE_INFINITY,
  throttle: null,
  failureThreshold: 3,
  removeAgainMs: 60_000,
  policies: [],
  otherwise: onDemand,
};

/** Scaler, clock and cloud. */
function open(settings: Partial<ScalerSettings> = {}) {
  let now = 1_000_000;
  const clock = { now: () => now, wall: () => Date.UTC(2026, 10, 30) + now };
  const scaler = createScaler({ ...base, ...settings }, clock);
  const cloud = openCloud(scaler);
  return {
    scaler,
    cloud,
    pass: (ms: number) => {
      now += ms;
      cloud.tick();
    },
  };
}

test("without idle instances nothing is made for a question, one for a job that has come, and it goes when its time is over", () => {
  const { scaler, cloud, pass } = open();
  const ticket = scaler.reserve();
  if (ticket === null) throw new Error("an instance may be made");
  pass(1000);
  expect(cloud.ids()).toEqual([]);
  scaler.arrive(ticket);
  expect(ticket.state).toBe("waiting");
  pass(1000);
  expect(cloud.ids()).toHaveLength(1);
  cloud.finish();
  pass(1000);
  expect(ticket).toMatchObject({ state: "working", instance: cloud.ids()[0] });
  pass(3_600_000);
  expect(cloud.ids()).toHaveLength(1);
  scaler.release(ticket);
  pass(59_999);
  expect(cloud.ids()).toHaveLength(1);
  pass(1);
  cloud.finish();
  pass(0);
  expect(cloud.ids()).toEqual([]);
  expect(scaler.inputs()).toMatchObject({ instances: 0, working: 0, waiting: 0, asking: 0 });
});

test("where jobs need an instance that is ready, none is asked for before, whatever the factor", () => {
  const { scaler, cloud, pass } = open({
    otherwise: { ...onDemand, idleFactor: 1, idleMost: 24, preemptive: true },
  });
  pass(1000);
  expect(scaler.reserve()).toBeNull();
  expect(cloud.ids()).toEqual([]);
  scaler.configure({ ...base, otherwise: keep(1) });
  pass(1000);
  expect(scaler.reserve()).toBeNull();
  expect(scaler.hasRoom()).toBe(false);
  cloud.finish();
  pass(1000);
  expect(scaler.hasRoom()).toBe(true);
  expect(scaler.reserve()).not.toBeNull();
  expect(scaler.reserve()).toBeNull();
});

test("questions make no instances and keep none: they are no demand", () => {
  const { scaler, cloud, pass } = open({ capacity: 5 });
  const job = scaler.reserve();
  if (job === null) throw new Error("an instance may be made");
  scaler.arrive(job);
  pass(0);
  cloud.finish();
  pass(0);
  scaler.release(job);
  // One question follows the other, as long polls do, and there is always one under way.
  let question = scaler.reserve();
  for (let i = 0; i < 10; i++) {
    pass(10_000);
    const next = scaler.reserve();
    if (question !== null) scaler.release(question);
    question = next;
  }
  pass(1000);
  cloud.finish();
  pass(1000);
  expect(cloud.made).toBe(1);
  expect(cloud.ids()).toEqual([]);
  // The question that is left may bring a job all the same.
  if (question === null) throw new Error("an instance may be made");
  scaler.arrive(question);
  pass(0);
  cloud.finish();
  pass(0);
  expect(question.state).toBe("working");
});

test("ten questions with idle instances replace none of them", () => {
  const { scaler, cloud, pass } = open({ otherwise: keep(10), maxInstances: 100 });
  pass(0);
  cloud.finish();
  pass(0);
  const questions = Array.from({ length: 11 }, () => scaler.reserve());
  expect(questions.filter((one) => one !== null)).toHaveLength(10);
  pass(1000);
  expect(cloud.made).toBe(10);
});

test("an instance whose question is under way is not removed, gets no other one, and a job that comes keeps it", () => {
  const { scaler, cloud, pass } = open({ maxInstances: 1, otherwise: keep(1) });
  pass(0);
  cloud.finish();
  pass(0);
  const question = scaler.reserve();
  if (question === null) throw new Error("it is ready");
  scaler.configure({ ...base, maxInstances: 1, otherwise: { ...onDemand, preemptive: true } });
  pass(120_000);
  expect(scaler.inputs().ready).toBe(1);
  expect(scaler.reserve()).toBeNull();
  scaler.arrive(question);
  pass(120_000);
  expect(question.state).toBe("working");
  scaler.release(question);
  pass(59_000);
  const other = scaler.reserve();
  expect(other).not.toBeNull();
  pass(1000);
  if (other !== null) scaler.release(other);
  pass(0);
  cloud.finish();
  pass(0);
  expect(cloud.ids()).toEqual([]);
});

test("instances that are removed are no room, and are not replaced where enough are idle", () => {
  const { scaler, cloud, pass } = open({ otherwise: keep(3), maxInstances: 3 });
  pass(0);
  cloud.finish();
  pass(0);
  scaler.configure({ ...base, maxInstances: 3, otherwise: keep(1) });
  pass(60_000);
  expect(scaler.inputs()).toMatchObject({ instances: 3, ready: 1, coming: 0 });
  for (let i = 0; i < 5; i++) pass(1000);
  expect(cloud.made).toBe(3);
  expect(scaler.reserve()).not.toBeNull();
  expect(scaler.reserve()).toBeNull();
});

test("a use count is kept: an instance gets that many jobs, and is removed after the last", () => {
  const { scaler, cloud, pass } = open({ maxUses: 2, otherwise: keep(1), maxInstances: 1 });
  pass(0);
  cloud.finish();
  pass(0);
  for (let i = 0; i < 2; i++) {
    const ticket = scaler.reserve();
    if (ticket === null) throw new Error("it is ready");
    scaler.arrive(ticket);
    // The same job, prepared once more.
    scaler.arrive(ticket);
    expect(cloud.removed).toEqual([]);
    scaler.release(ticket);
  }
  expect(scaler.reserve()).toBeNull();
  pass(0);
  expect(cloud.removed).toHaveLength(1);
});

test("one that fails its checks gets no jobs any more, and goes after those it has", () => {
  const { scaler, cloud, pass } = open({ capacity: 2, otherwise: keep(1), maxInstances: 2 });
  pass(0);
  cloud.finish();
  pass(0);
  const ticket = scaler.reserve();
  if (ticket?.instance == null) throw new Error("it is ready");
  const sick = ticket.instance;
  scaler.arrive(ticket);
  for (const healthy of [false, false, true, false, false]) scaler.checked(sick, healthy);
  expect(scaler.instance(sick)?.state).toBe("ready");
  scaler.checked(sick, false);
  expect(scaler.instance(sick)?.state).toBe("draining");
  pass(600_000);
  expect(cloud.removed).toEqual([]);
  expect(ticket.state).toBe("working");
  scaler.release(ticket);
  pass(0);
  expect(cloud.removed).toEqual([sick]);
});

test("an instance that vanishes loses its jobs, which may have another one", () => {
  const { scaler, cloud, pass } = open();
  const ticket = scaler.reserve();
  if (ticket === null) throw new Error("an instance may be made");
  scaler.arrive(ticket);
  pass(0);
  cloud.finish();
  pass(0);
  const first = ticket.instance;
  cloud.lose(String(first));
  pass(0);
  expect(ticket).toMatchObject({ state: "lost", instance: null });
  scaler.arrive(ticket);
  pass(0);
  cloud.finish();
  pass(0);
  expect(ticket.state).toBe("working");
  expect(ticket.instance).not.toBe(first);
});

test("where instances cannot be made, tries become rare, and no job is asked for until one is ready", () => {
  const { scaler, cloud, pass } = open();
  cloud.refusing = true;
  const ticket = scaler.reserve();
  if (ticket === null) throw new Error("nothing is known against it yet");
  scaler.arrive(ticket);
  for (let i = 0; i < 3600; i++) {
    pass(1000);
    expect(scaler.reserve()).toBeNull();
  }
  expect(cloud.asked).toBeGreaterThan(10);
  expect(cloud.asked).toBeLessThan(30);
  // The job gives up; the questions go on, and with them one trial at a time.
  scaler.release(ticket);
  cloud.refusing = false;
  for (let i = 0; i < 400; i++) {
    pass(1000);
    scaler.reserve();
  }
  expect(cloud.ids()).toHaveLength(1);
  expect(scaler.reserve()).toBeNull();
  cloud.finish();
  pass(1000);
  expect(scaler.reserve()).not.toBeNull();
});

test("instances that never become usable are removed, ever more rarely made, and never more than one at a time", () => {
  const { cloud, pass } = open({ otherwise: keep(4) });
  cloud.broken = true;
  for (let i = 0; i < 3600; i++) {
    pass(1000);
    cloud.finish();
  }
  expect(cloud.made).toBeLessThan(30);
  expect(cloud.ids().length).toBeLessThanOrEqual(1);
});

test("a throttle lets so many a second be made, and so many at once", () => {
  const { scaler, cloud, pass } = open({
    otherwise: keep(50),
    maxInstances: 100,
    throttle: { perSecond: 0.5, burst: 5 },
  });
  pass(0);
  expect(cloud.made).toBe(5);
  for (let i = 0; i < 10; i++) pass(1000);
  expect(cloud.made).toBe(10);
  scaler.configure({ ...base, otherwise: keep(50), maxInstances: 100, maxCreating: 12 });
  pass(0);
  expect(cloud.made).toBe(12);
  cloud.finish();
  pass(0);
  pass(0);
  expect(cloud.made).toBe(24);
});

test("a limit that was lowered is met by idle instances alone", () => {
  const { scaler, cloud, pass } = open({ otherwise: keep(4), maxInstances: 8 });
  pass(0);
  cloud.finish();
  pass(0);
  const jobs = [scaler.reserve(), scaler.reserve()];
  for (const job of jobs) if (job !== null) scaler.arrive(job);
  pass(0);
  cloud.finish();
  pass(0);
  expect(cloud.ids()).toHaveLength(6);
  scaler.configure({ ...base, otherwise: keep(4), maxInstances: 1 });
  pass(0);
  cloud.finish();
  pass(0);
  expect(cloud.ids()).toHaveLength(2);
  expect(jobs.map((job) => job?.state)).toEqual(["working", "working"]);
});

test("instances from before keep their use count and their idle time, once they have been checked", () => {
  const { scaler, cloud, pass } = open({ maxUses: 3 });
  scaler.adopt({ id: "old", state: "running" }, { uses: 2, idleSince: 1_000_000 - 50_000 });
  cloud.have("old");
  expect(scaler.inputs()).toMatchObject({ ready: 0, coming: 1 });
  pass(0);
  expect(scaler.inputs()).toMatchObject({ ready: 1, coming: 0 });
  pass(9_999);
  expect(cloud.removed).toEqual([]);
  pass(1);
  expect(cloud.removed).toEqual(["old"]);
});

test("when nobody asks for jobs any more, none is made to idle, but those that jobs wait for are", () => {
  const { scaler } = open({ otherwise: keep(2) });
  expect(scaler.decide("forJobs").grow).toBe(0);
  scaler.configure({ ...base, otherwise: onDemand });
  const ticket = scaler.reserve();
  if (ticket !== null) scaler.arrive(ticket);
  scaler.configure({ ...base, otherwise: keep(2) });
  expect(scaler.decide("forJobs").grow).toBe(1);
  expect(scaler.decide().grow).toBe(2);
});

test("a provider that forgets to remove is told again", () => {
  const { cloud, pass, scaler } = open({ otherwise: keep(1) });
  pass(0);
  cloud.finish();
  pass(0);
  const [id = ""] = cloud.ids();
  cloud.keepsAll = true;
  scaler.discard(id, "its ready command failed");
  pass(0);
  pass(30_000);
  expect(cloud.removed).toEqual([id]);
  pass(30_000);
  expect(cloud.removed).toEqual([id, id]);
});
