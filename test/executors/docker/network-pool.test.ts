import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { removeAbandonedNetworks } from "../../../executors/docker/clean-up/clean-up.ts";
import {
  createNetworkPool,
  type NetworkPool,
  type PoolTiming,
} from "../../../executors/docker/job/network/network-pool.ts";
import { never } from "../../../src/time.ts";
import { imageName, noEngine, testEngine } from "../../support/docker.ts";
import { useEngine } from "../docker-stand.ts";

const found = await testEngine("docker");

describe("networks of jobs", () => {
  if (found === null) {
    test.skip(noEngine("docker"), () => {});
    return;
  }
  const { docker } = found;
  const { owner, log, engine } = useEngine(found);
  afterAll(async () => {
    const left = await ours();
    await removeAbandonedNetworks(engine(), { ...owner, process: "another" }, never);
    expect(left).toEqual([]);
  }, 60_000);

  const ours = async (): Promise<string[]> => {
    const filters = { label: [`alloy-runner.installation=${owner.installation}`] };
    return (await docker.listNetworks({ filters })).map(({ Id }) => Id).sort();
  };
  const open = (timing?: PoolTiming, of = owner): NetworkPool => {
    const settings = { networkMtu: undefined, enableIpv6: false };
    return createNetworkPool({ engine: engine(), owner: of, settings, log }, timing);
  };
  const forTest = (timing?: PoolTiming): NetworkPool => {
    const pool = open(timing);
    onTestFinished(async () => await pool.close());
    return pool;
  };

  test("belong to one job at a time, and go on to the next when they are empty", async () => {
    const pool = forTest();
    const [one, two] = [pool.forJob("r"), pool.forJob("r")];
    const [first, second] = await Promise.all([one.take(never), two.take(never)]);
    expect(first.id).not.toBe(second.id);
    expect(await one.take(never)).toBe(first);
    expect((await docker.getNetwork(first.id).inspect()).Name).toBe(first.name);
    one.giveBack(true);
    one.giveBack(true);
    const three = pool.forJob("r");
    expect(await three.take(never)).toMatchObject(first);
    const four = pool.forJob("r");
    expect([first.id, second.id]).not.toContain((await four.take(never)).id);
    for (const loan of [two, three, four]) loan.giveBack(false);
  }, 60_000);

  test("that were pruned, or that something is still in, are not given to a job", async () => {
    const pool = forTest();
    const [one, two] = [pool.forJob("r"), pool.forJob("r")];
    const [pruned, used] = await Promise.all([one.take(never), two.take(never)]);
    one.giveBack(true);
    two.giveBack(true);
    await docker.getNetwork(pruned.id).remove();
    const options = { Image: imageName("sh"), Cmd: ["sleep", "600"], HostConfig: { NetworkMode: used.id } };
    const container = await docker.createContainer(options);
    onTestFinished(async () => void (await container.remove({ force: true }).catch(() => {})));
    await container.start();
    const three = pool.forJob("r");
    expect([pruned.id, used.id]).not.toContain((await three.take(never)).id);
    three.giveBack(true);
    await container.remove({ force: true });
  }, 60_000);

  test("that nobody wants for a while are removed, and the others when the runner ends", async () => {
    const pool = open({ idleMs: 100, lookMs: 50 });
    const [one, two] = [pool.forJob("r"), pool.forJob("r")];
    const [first, second] = await Promise.all([one.take(never), two.take(never)]);
    one.giveBack(true);
    await expect.poll(ours, { timeout: 30_000, interval: 50 }).toEqual([second.id]);
    two.giveBack(true);
    await pool.close();
    expect(await ours()).toEqual([]);
    expect(first.id).not.toBe(second.id);
  }, 60_000);

  test("of a dead process are removed once they are empty, and nobody else's", async () => {
    const dead = open(undefined, { ...owner, process: "0-0" });
    const [one, two] = [dead.forJob("r"), dead.forJob("r")];
    const [empty, used] = await Promise.all([one.take(never), two.take(never)]);
    const options = { Image: imageName("sh"), Cmd: ["sleep", "600"], HostConfig: { NetworkMode: used.id } };
    const container = await docker.createContainer(options);
    onTestFinished(async () => void (await container.remove({ force: true }).catch(() => {})));
    await container.start();
    const mine = forTest().forJob("r");
    const own = await mine.take(never);
    expect(await removeAbandonedNetworks(engine(), { ...owner, installation: "another" }, never)).toBe(0);
    expect(await removeAbandonedNetworks(engine(), owner, never)).toBe(1);
    expect(await ours()).toEqual([own.id, used.id].sort());
    await container.remove({ force: true });
    expect(await removeAbandonedNetworks(engine(), owner, never)).toBe(1);
    expect(await ours()).toEqual([own.id]);
    expect(empty.id).not.toBe(used.id);
    mine.giveBack(false);
  }, 60_000);

  test("whose creation was given up do not stay", async () => {
    const pool = open({ idleMs: 100, lookMs: 50 });
    const stop = new AbortController();
    const taking = pool.forJob("r").take(stop.signal);
    stop.abort(new Error("enough"));
    await expect(taking).rejects.toThrow("enough");
    await expect.poll(ours, { timeout: 30_000, interval: 50 }).toEqual([]);
    await pool.close();
  }, 60_000);
});
