import { createServer, type ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { expect, onTestFinished, test } from "vitest";
import { choosePlaces } from "../../../executors/docker/container/places.ts";
import { connectEngine, type Engine } from "../../../executors/docker/engine/engine.ts";
import { createVolumes, type JobVolumes } from "../../../executors/docker/job/volumes.ts";
import { dockerTable } from "../../../executors/docker/settings/settings.ts";
import { never } from "../../../src/time.ts";
import { sampleRequest } from "../../support/executor-kit.ts";

/** An engine that makes volumes as `create` says. */
async function engineThat(create: (target: string, response: ServerResponse) => void): Promise<Engine> {
  const server = createServer(async (request, response) => {
    if (request.url?.endsWith("/version")) response.end('{"ApiVersion":"1.41","Os":"linux"}');
    else if (!request.url?.includes("/volumes/create")) response.end("{}");
    else {
      let body = "";
      for await (const chunk of request) body += String(chunk);
      response.setHeader("content-type", "application/json");
      create(JSON.parse(body).Labels["com.gitlab.gitlab-runner.cache.dir"], response);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  const connection = { host: `tcp://127.0.0.1:${port}`, tlsCertPath: "", tlsVerify: false };
  const engine = await connectEngine({ settings: connection, env: {}, scratchDir: tmpdir() }, never);
  onTestFinished(async () => {
    await engine.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return engine;
}

async function volumesOf(engine: Engine, table: Readonly<Record<string, unknown>>): Promise<JobVolumes> {
  const settings = dockerTable.parse(table);
  const request = sampleRequest();
  const places = choosePlaces({ buildsDir: "/builds", settings, request, slot: 0 });
  const marks = { owner: { installation: "i", process: "1-1" }, request };
  const options = { settings, marks, places, slot: 0, workingDirectory: "/work", privateVolume: true };
  const around = { uses: { volumes: async () => {} }, notes: { print: () => {} }, expand: (text: string) => text };
  return await createVolumes(engine, { ...options, ...around }, never);
}

test("only directories that the runner made are opened to everybody, whatever the operator's are called", async () => {
  const engine = await engineThat((_, response) => response.writeHead(201).end('{"Name":"x"}'));
  const volumes = ["/srv/our-concurrent-data:/data", "named-concurrent-volume:/named", "/cache"];
  expect(await volumesOf(engine, { volumes })).toMatchObject({ open: ["/cache"] });
  const backed = await volumesOf(engine, { volumes, cache_dir: "/srv/cache" });
  expect(backed.open).toEqual(["/cache"]);
  expect(backed.binds).toHaveLength(5);
});

test("one that cannot be made fails the rest once nothing is being made any more", async () => {
  let answered = false;
  const engine = await engineThat((target, response) => {
    if (target === "/slow") {
      setTimeout(() => {
        answered = true;
        response.writeHead(201).end('{"Name":"slow"}');
      }, 300);
    } else response.writeHead(500).end('{"message":"no room"}');
  });
  await expect(volumesOf(engine, { volumes: ["/slow", "/cache"] })).rejects.toThrow(/volume for \/cache: no room/);
  expect(answered).toBe(true);
});
