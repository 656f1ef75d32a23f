import { describe, expect, test } from "vitest";
import { createOutlook } from "../../executors/common/outlook.ts";
import { SystemFailure } from "../../src/errors.ts";
import { never } from "../../src/time.ts";

describe("an outlook", () => {
  test("looks when it is asked first, and anew after a doubt", async () => {
    let looks = 0;
    let broken = false;
    const outlook = createOutlook({
      look: async () => {
        looks++;
        if (broken) throw new SystemFailure("the host is away");
      },
      freshMs: 60_000,
      staleMs: 60_000,
      limitMs: 1000,
    });
    await Promise.all([outlook.ready(never), outlook.ready(never)]);
    broken = true;
    await outlook.ready(never);
    expect(looks).toBe(1);
    outlook.doubt();
    await expect(outlook.ready(never)).rejects.toThrow("the host is away");
    await expect(outlook.ready(never)).rejects.toThrow("the host is away");
    expect(looks).toBe(2);
  });

  test("a good answer that ages is given while a look is under way; one that is old, or bad, is waited for", async () => {
    const looks: PromiseWithResolvers<void>[] = [];
    const outlook = createOutlook({
      look: () => {
        const next = Promise.withResolvers<void>();
        looks.push(next);
        return next.promise;
      },
      freshMs: -1,
      staleMs: 60_000,
      againMs: -1,
      limitMs: 60_000,
    });
    const first = outlook.ready(never);
    looks[0]?.resolve();
    await first;
    await outlook.ready(never);
    await outlook.ready(never);
    expect(looks).toHaveLength(2);
    looks[1]?.reject(new SystemFailure("gone"));
    await new Promise((resolve) => setImmediate(resolve));
    const waiting = outlook.ready(never);
    expect(looks).toHaveLength(3);
    looks[2]?.resolve();
    await waiting;
  });

  test("what does not answer in time is away, and whoever asks may give up sooner", async () => {
    const outlook = createOutlook({
      look: () => new Promise(() => {}),
      freshMs: 0,
      staleMs: 0,
      againMs: 0,
      limitMs: 50,
    });
    const gaveUp = new AbortController();
    const asked = outlook.ready(gaveUp.signal);
    gaveUp.abort(new Error("enough"));
    await expect(asked).rejects.toThrow("enough");
    await expect(outlook.ready(never)).rejects.toThrow("no answer within 0.05 s");
  });
});
