import { Readable } from "node:stream";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { SystemFailure } from "../../src/errors.ts";
import { tarEnd, tarHeader, tarPadding } from "../../src/files/tar.ts";
import { never } from "../../src/time.ts";
import { fileName, fileNameOf } from "../../src/workspace.ts";
import { noCluster, useCluster } from "../support/cluster/cluster.ts";
import { openRoughLine, type RoughLine } from "../support/cluster/rough-line.ts";
import { runOps, Sink, sampleRequest, source } from "../support/executor-kit.ts";
import { type KubernetesStand, openStand } from "./kubernetes-stand.ts";

const cluster = await useCluster();

/** A real cluster behind a line that cuts, halves and stalls: what happens is whole, or it is a system failure. */
describe("jobs over bad connections", () => {
  if (cluster === null) {
    test.skip(`needs a cluster: ${noCluster}`, () => {});
    return;
  }
  let stand: KubernetesStand;
  let token = "";
  beforeAll(async () => {
    await cluster.images("git");
    stand = await openStand(cluster);
    const { namespace } = stand;
    const account = ["--clusterrole=cluster-admin", `--serviceaccount=${namespace}:default`];
    await cluster.kubectl(["create", "rolebinding", "all", "-n", namespace, ...account]);
    token = (await cluster.kubectl(["create", "token", "default", "-n", namespace])).trim();
  }, 300_000);

  const it = (title: string, body: () => Promise<void>): void => test(title, body, 240_000);
  const opened = async () => {
    const line = await openRoughLine(cluster.server);
    onTestFinished(() => line.close());
    const executor = stand.open({}, { host: line.address, bearer_token: token });
    onTestFinished(() => executor.close(never));
    return { line, executor };
  };
  const prepared = async () => {
    const { line, executor } = await opened();
    const environment = await executor.prepare(sampleRequest(), new Sink(), never);
    onTestFinished(() => environment.destroy(never));
    onTestFinished(() => line.spoil(null));
    return { line, environment };
  };
  const spoil = (line: RoughLine, fault: Partial<Parameters<RoughLine["spoil"]>[0]>): void =>
    line.spoil({ request: /\/exec\?/, way: "down", after: 0, how: "break", times: 1, ...fault });
  const lines = (count: number): string => Array.from({ length: count }, (_, index) => `line ${index}\n`).join("");
  const counting = (count: number): string =>
    `i=0; while [ $i -lt ${count} ]; do echo line $i; i=$((i + 1)); sleep 0.02; done; exit 7`;
  const withoutWeather = (text: string): string => text.replace(/^.*The connection to the pod is .*\n/gm, "");

  for (const how of ["break", "end"] as const) {
    it(`output and status are whole where each connection comes to an end within a message (${how})`, async () => {
      const { line, environment } = await prepared();
      spoil(line, { after: 50_000, how, times: Infinity });
      const long = `p=$(head -c 3000 /dev/zero | tr '\\0' x); i=0; while [ $i -lt 200 ]; do echo line $i $p; i=$((i + 1)); sleep 0.02; done; exit 7`;
      const { code, text } = await runOps(environment, source(long));
      expect(code).toBe(7);
      expect(withoutWeather(text).replaceAll(` ${"x".repeat(3000)}`, "")).toBe(lines(200));
      expect(line.hits).toBeGreaterThan(8);
    });
  }

  it("nothing is run of a script of which half arrives, and all of it once", async () => {
    const { line, environment } = await prepared();
    for (const how of ["break", "end"] as const) {
      spoil(line, { way: "up", after: 100_000, how });
      const padding = Array.from({ length: 4000 }, (_, index) => `: ${index} ${"x".repeat(40)}`).join("\n");
      const before = line.hits;
      const { code } = await runOps(environment, source("echo ran >>/builds/count", padding, "exit 5"));
      expect([code, line.hits - before]).toEqual([5, 1]);
    }
    expect((await runOps(environment, source("cat /builds/count"))).text).toBe("ran\nran\n");
  });

  it("a script whose start is not answered runs once", async () => {
    const { line, environment } = await prepared();
    spoil(line, { after: /alloy-runner [0-9a-f]{16} 0/, times: 2 });
    const { code } = await runOps(environment, source("echo ran >>/builds/count", "exit 5"));
    expect([code, line.hits]).toEqual([5, 2]);
    expect((await runOps(environment, source("cat /builds/count"))).text).toBe("ran\n");
  });

  it("connections that fall silent are given up, and output and status are whole", async () => {
    const { line, environment } = await prepared();
    const output = new Sink();
    const running = runOps(environment, source(counting(1000)), { output });
    running.catch(() => {});
    await output.until(/line 100\n/);
    line.stall();
    const { code, text } = await running;
    expect(code).toBe(7);
    expect(withoutWeather(text)).toBe(lines(1000));
  });

  it("a pod whose making or removal is not answered is made once, and removed", async () => {
    const { line, executor } = await opened();
    const request = sampleRequest();
    const podsOf = async (): Promise<number> => {
      const selector = `alloy-runner.job-key=${request.jobKey}`;
      return (
        (await cluster.kubectl(["get", "pods", "-n", stand.namespace, "-l", selector, "-o", "name"])).split("pod/")
          .length - 1
      );
    };
    spoil(line, { request: /^POST \S+\/pods /, after: 1, times: 2 });
    const environment = await executor.prepare(request, new Sink(), never);
    expect([line.hits, await podsOf()]).toEqual([2, 1]);
    expect((await runOps(environment, source("exit 3"))).code).toBe(3);
    spoil(line, { request: /^DELETE \S+\/pods\//, after: 1, times: 2 });
    await environment.destroy(never);
    expect(line.hits).toBe(4);
    await expect.poll(podsOf, { timeout: 30_000 }).toBe(0);
  });

  it("files that arrive in part are not there, and files that leave in part are no archive", async () => {
    const { line, environment } = await prepared();
    const { workspace } = environment;
    const content = Buffer.alloc(3_000_000, "0123456789abcdef");
    const archive = (): Readable => {
      const head = tarHeader({
        name: fileName(Buffer.from("big")),
        kind: "file",
        size: content.length,
        mode: 0o644,
        mtimeSeconds: 1_000_000_000,
        target: fileNameOf(""),
      });
      return Readable.from([head, content, Buffer.alloc(tarPadding(content.length)), tarEnd], { objectMode: false });
    };
    const limits = { bytes: 1e9, entries: 1000, freeBytes: 0 };
    const listed = async (): Promise<number> =>
      (await workspace.list({ globs: ["*"], exclude: [], untracked: false }, never)).paths.length;
    await runOps(environment, [{ op: "mkdir", path: workspace.root }], { runIn: "helper" });
    for (const how of ["break", "end"] as const) {
      spoil(line, { way: "up", after: 1_000_000, how });
      await expect(workspace.unpack(archive(), limits, never)).rejects.toBeInstanceOf(SystemFailure);
      expect(await listed()).toBe(0);
    }
    await workspace.unpack(archive(), limits, never);
    expect(await listed()).toBe(1);
    const read = async (): Promise<number> => {
      let bytes = 0;
      const { tar } = await workspace.pack([fileName(Buffer.from("big"))], never);
      for await (const piece of tar) bytes += piece.length;
      return bytes;
    };
    for (const how of ["break", "end"] as const) {
      spoil(line, { after: 1_000_000, how });
      await expect(read()).rejects.toBeInstanceOf(SystemFailure);
    }
    expect(await read()).toBeGreaterThan(content.length);
  });
});
