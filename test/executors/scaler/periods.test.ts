import { expect, test } from "vitest";
import { createDemand, type Demand, idleFor } from "../../../executors/scaler/decide/policy.ts";
import { type Period, parsePeriod } from "../../../src/periods.ts";

const berlin = { timezone: "Europe/Berlin", days: "both" } as const;

function period(text: string, rules: Parameters<typeof parsePeriod>[1] = berlin): Period {
  const parsed = parsePeriod(text, rules);
  if (typeof parsed === "string") throw new Error(parsed);
  return parsed;
}

test("a period is a set of minutes in its time zone, whatever its seconds say", () => {
  const work = period("* 9-17 * * MON-FRI");
  // 2026-11-30 is a Monday; Berlin is an hour ahead of UTC in winter, and two in summer.
  expect(work(new Date("2026-11-30T08:00:00Z"))).toBe(true);
  expect(work(new Date("2026-11-30T07:59:00Z"))).toBe(false);
  expect(work(new Date("2026-11-30T16:59:59Z"))).toBe(true);
  expect(work(new Date("2026-11-30T17:00:00Z"))).toBe(false);
  expect(work(new Date("2026-11-29T10:00:00Z"))).toBe(false);
  expect(work(new Date("2026-07-06T07:00:00Z"))).toBe(true);
  for (const sunday of ["* * * * 0", "* * * * 7", "* * * * SUN"]) {
    expect(period(sunday)(new Date("2026-11-29T12:00:00Z")), sunday).toBe(true);
    expect(period(sunday)(new Date("2026-11-30T12:00:00Z")), sunday).toBe(false);
  }
});

test("periods with seconds and years are those of the older keys", () => {
  for (const text of [
    "* * 0-7,19-23 * * mon-fri *",
    "0 * 0-7,19-23 * * mon-fri 2026",
    "* 0-7,19-23 * * mon-fri 2026",
  ]) {
    expect(period(text)(new Date("2026-11-30T18:30:42Z")), text).toBe(true);
    expect(period(text)(new Date("2026-11-30T12:30:00Z")), text).toBe(false);
    expect(period(text)(new Date("2026-11-29T18:30:00Z")), text).toBe(false);
  }
  expect(period("* * * * * * 2027")(new Date("2026-11-30T12:00:00Z"))).toBe(false);
});

test("a day of the month and a weekday have to fit both, or either, as the rules say", () => {
  const firstIsTuesday = new Date("2026-12-01T12:00:00Z");
  expect(period("* * 1 * MON")(firstIsTuesday)).toBe(false);
  expect(period("* * 1 * MON", { ...berlin, days: "either" })(firstIsTuesday)).toBe(true);
});

test("what is no period is refused with what is wrong", () => {
  expect(parsePeriod("* * *", berlin)).toMatch(/"\* \* \*" is no period: five fields are wanted/);
  expect(parsePeriod("* 25 * * *", berlin)).toMatch(/"\* 25 \* \* \*" is no period: /);
  expect(parsePeriod("* * * * FUNDAY", berlin)).toMatch(/is no period/);
  expect(parsePeriod("* * * * *", { ...berlin, timezone: "Mars/Base" })).toMatch(/"Mars\/Base" is no time zone/);
  expect(typeof parsePeriod("* * * * *", { ...berlin, timezone: "Local" })).toBe("function");
});

const none: Demand = { idleLeast: 0, idleMost: 0, idleFactor: 0, idleTimeMs: 0, preemptive: false };
const of = (idle: number): Demand => ({ ...none, idleLeast: idle, idleMost: idle });

test("the last policy that holds counts, and outside of all the one for the rest of the time", () => {
  const demand = createDemand(
    [
      { periods: [], demand: of(1) },
      { periods: [period("* 8-17 * * *"), period("* 20 * * *")], demand: of(5) },
      { periods: [period("* 12 * * *")], demand: of(9) },
    ],
    none,
  );
  const at = (time: string): number => demand(Date.parse(`2026-11-30T${time}:00+01:00`)).idleLeast;
  expect([at("07:59"), at("08:00"), at("12:30"), at("13:00"), at("20:10"), at("21:00")]).toEqual([1, 5, 9, 5, 5, 1]);
  expect(
    createDemand([{ periods: [period("* 8 * * *")], demand: of(1) }], of(0))(Date.parse("2026-11-30T12:00Z")),
  ).toEqual(of(0));
});

test("idle slots follow the jobs between their least and their most", () => {
  const demand: Demand = { ...none, idleLeast: 2, idleMost: 10, idleFactor: 0.5 };
  expect([0, 4, 5, 20, 100].map((jobs) => idleFor(demand, jobs))).toEqual([2, 2, 3, 10, 10]);
  expect(idleFor({ ...demand, idleMost: Number.POSITIVE_INFINITY }, 100)).toBe(50);
  // A limit below the least does not take from it.
  expect(idleFor({ ...demand, idleMost: 1 }, 100)).toBe(2);
});
