import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type LocalCoordinator, startCoordinator } from "../../src/local/coordinator/coordinator.ts";
import { type Client, createClient } from "./client.ts";

let coordinator: LocalCoordinator;
let client: Client;

beforeEach(async () => {
  coordinator = await startCoordinator({
    dialect: "alloy",
    registrationToken: "GLOBAL",
    projects: [{ id: 7, registrationToken: "PROJECT" }],
  });
  client = createClient(coordinator);
});

afterEach(async () => {
  await client.close();
  await coordinator.close();
});

const info = { name: "alloy-runner", version: "2.0.0" };

describe("runners", () => {
  test("registering needs a known token, a description and info.name, and makes a token that ends in ==", async () => {
    const good = await client.json("POST", "runners", {
      token: "GLOBAL",
      description: "mine",
      info,
      tag_list: "a, b",
      run_untagged: false,
    });
    expect(good.status).toBe(201);
    expect(good.headers["content-type"]).toBe("application/json; charset=utf-8");
    const { id, token } = JSON.parse(good.text);
    expect(token).toMatch(/^[A-Za-z0-9_-]{22}==$/);
    expect(coordinator.runners[0]).toMatchObject({ id, token, tags: ["a", " b"], runUntagged: true, projectId: null });

    expect((await client.json("POST", "runners", { token: "no", description: "x", info })).status).toBe(403);
    expect((await client.json("POST", "runners", { token: "GLOBAL", info })).status).toBe(403);
    expect((await client.json("POST", "runners", { token: "GLOBAL", description: "x", info: {} })).status).toBe(403);
    expect((await client.json("POST", "runners", { token: "GLOBAL", description: "x" })).status).toBe(500);
    expect((await client.json("POST", "runners", { token: "PROJECT", description: "x", info })).status).toBe(201);
    expect(coordinator.runners[1]?.projectId).toBe(7);
  });

  test("verify answers 200 with nothing, 403, or 500 without a token", async () => {
    const { token } = coordinator.addRunner();
    const good = await client.json("POST", "runners/verify", { token });
    expect([good.status, good.text, good.headers["content-type"]]).toEqual([200, "", undefined]);
    expect((await client.json("POST", "runners/verify", { token: "other" })).status).toBe(403);
    expect((await client.json("POST", "runners/verify", {})).status).toBe(500);
  });

  test("a runner is removed by a token in the body or in the query", async () => {
    const [one, two] = [coordinator.addRunner(), coordinator.addRunner()];
    expect((await client.json("DELETE", "runners", {})).status).toBe(400);
    expect((await client.json("DELETE", "runners", { token: "other" })).status).toBe(403);
    expect((await client.json("DELETE", "runners", { token: one.token })).status).toBe(204);
    expect((await client.call("DELETE", `runners?token=${two.token}`)).status).toBe(204);
    expect(coordinator.runners).toEqual([]);
  });
});

describe("job requests", () => {
  test("an unknown token is 401, missing info 400, a missing token 500, and no work a 204 without a version", async () => {
    const { token } = coordinator.addRunner();
    expect((await client.requestJob("other")).status).toBe(401);
    expect((await client.json("POST", "jobs/request", { token })).status).toBe(400);
    expect((await client.json("POST", "jobs/request", { info })).status).toBe(500);
    expect((await client.json("POST", "jobs/request", { token, info: {} })).status).toBe(204);
    const none = await client.requestJob(token, { last_update: "something" });
    expect(none.status).toBe(204);
    expect(none.headers).not.toHaveProperty("x-gitlab-last-update");
    expect(
      (await client.call("POST", "jobs/request", { headers: { "content-type": "application/json" }, body: "{" }))
        .status,
    ).toBe(400);
  });

  test("the payload has AlloyCI's quirks", async () => {
    const { token } = coordinator.addRunner({ tags: null });
    const job = coordinator.enqueue({
      name: "unit",
      script: ["npm test"],
      afterScript: "echo bye",
      variables: { WORKERS: 4, FLAG: true, NOTHING: null },
      git: { repoUrl: "https://github.com/acme/widget.git", sha: "b".repeat(40), ref: "v1", refType: "tag" },
      artifacts: [],
    });
    const answer = await client.requestJob(token);
    expect(answer.headers["content-type"]).toBe("application/json; charset=utf-8");
    const payload = JSON.parse(answer.text);
    expect(String(payload.id)).toBe(job.id);
    expect(job.status).toBe("running");
    expect(payload).toMatchObject({
      image: { name: null },
      services: [],
      artifacts: [null],
      cache: [null],
      runner_info: { timeout: 3600 },
      git_info: { ref: "refs/tags/v1", ref_type: "branch" },
      steps: [
        { name: "script", script: ["npm test"] },
        { name: "after_script", script: "echo bye", when: "always" },
      ],
    });
    for (const absent of ["credentials", "features"]) expect(payload).not.toHaveProperty(absent);
    const value = (key: string) => payload.variables.find((variable: { key: string }) => variable.key === key)?.value;
    expect([value("WORKERS"), value("FLAG"), value("NOTHING"), value("CI_RUNNER_TAGS")]).toEqual([4, true, null, null]);
    expect(value("CI_COMMIT_REF_NAME")).toBe("refs/tags/v1");
    // The address contains two different installation tokens.
    expect(payload.git_info.repo_url).toMatch(
      /^https:\/\/x-access-token:v1\.[0-9a-f]+@github\.com\/acme\/widget\.git$/,
    );
    expect(value("CI_REPOSITORY_URL")).not.toBe(payload.git_info.repo_url);
  });

  test("the spec has the last word on the payload, and ids can be larger than numbers are exact", async () => {
    const { token } = coordinator.addRunner();
    coordinator.enqueue({ id: "90071992547409931", payload: { image: undefined, variables: "nonsense" } });
    const text = (await client.requestJob(token)).text;
    expect(text).toMatch(/^\{"id":90071992547409931,/);
    expect(JSON.parse(text)).toMatchObject({ variables: "nonsense" });
    expect(JSON.parse(text)).not.toHaveProperty("image");
    coordinator.enqueue({ payload: () => "no json" });
    expect(await client.requestJob(token)).toMatchObject({ status: 201, text: "no json" });
  });

  test("jobs go to project runners whatever their tags, to global ones by tags, tagged before untagged", async () => {
    const project = coordinator.addRunner({ projectId: 7, tags: ["x"] });
    const bare = coordinator.addRunner();
    const tagged = coordinator.addRunner({ tags: ["linux", "node"], runUntagged: true });
    const strict = coordinator.addRunner({ tags: ["linux"], runUntagged: false });
    const untagged = coordinator.enqueue({ name: "untagged" });
    const linux = coordinator.enqueue({ name: "linux", tags: ["linux"] });
    const foreign = coordinator.enqueue({ name: "foreign", tags: ["mac"], projectId: 7 });
    const next = coordinator.enqueue({ name: "next", tags: ["linux"] });
    expect((await client.job(tagged.token)).id).toBe(Number(linux.id));
    expect((await client.job(strict.token)).id).toBe(Number(next.id));
    expect((await client.requestJob(strict.token)).status).toBe(204);
    expect((await client.job(bare.token)).id).toBe(Number(untagged.id));
    expect((await client.requestJob(bare.token)).status).toBe(204);
    expect((await client.job(project.token)).id).toBe(Number(foreign.id));
  });

  test("a job can be kept for one runner", async () => {
    const [one, two] = [coordinator.addRunner(), coordinator.addRunner()];
    coordinator.enqueue({ runnerToken: two.token });
    expect((await client.requestJob(one.token)).status).toBe(204);
    expect((await client.requestJob(two.token)).status).toBe(201);
  });

  test("info is cast onto the runner, harmful keys too", async () => {
    const runner = coordinator.addRunner({ tags: ["a"] });
    await client.requestJob(runner.token, { info: { name: "x", tags: ["b"], description: "changed" } });
    expect(runner).toMatchObject({ tags: ["b"], description: "changed" });
  });

  test("two callers get the same job when it is asked for, or when they come while it is being handed over", async () => {
    const { token } = coordinator.addRunner();
    coordinator.switches.duplicateJobs = 1;
    coordinator.enqueue();
    expect((await client.job(token)).id).toBe((await client.job(token)).id);
    expect((await client.requestJob(token)).status).toBe(204);

    coordinator.switches.jobRequestDelayMs = 200;
    coordinator.enqueue();
    const [one, two] = await Promise.all([client.job(token), client.job(token)]);
    expect(one.id).toBe(two.id);
  });

  test("a caller who hangs up takes the job with it", async () => {
    const { token } = coordinator.addRunner();
    coordinator.switches.jobRequestDelayMs = 100;
    const job = coordinator.enqueue();
    const impatient = createClient(coordinator);
    const asked = impatient.requestJob(token);
    await coordinator.waitForRequest(({ receivedAt }) => receivedAt !== undefined);
    await impatient.close();
    await expect(asked).rejects.toThrow();
    await job.running();
  });

  test("a missing artifact of a dependency poisons every request, where that is wanted", async () => {
    const { token } = coordinator.addRunner();
    const first = coordinator.enqueue({ artifacts: { paths: ["x"] } });
    await client.put(await client.job(token), { state: "success", trace: "" });
    const second = coordinator.enqueue({ dependencies: [first] });
    coordinator.switches.missingArtifacts = "poison";
    expect((await client.requestJob(token)).status).toBe(500);
    expect((await client.requestJob(token)).status).toBe(500);
    expect(second.status).toBe("pending");
    coordinator.switches.missingArtifacts = "skip";
    expect(await client.job(token)).toMatchObject({ dependencies: [] });
  });
});

describe("traces", () => {
  test("each patch gets a newline in front, offsets do not matter, and the last PUT replaces all of it", async () => {
    const { token } = coordinator.addRunner();
    const local = coordinator.enqueue();
    const job = await client.job(token);
    const first = await client.patch(job, "one\n", { "content-range": "0-3" });
    expect(first.status).toBe(202);
    expect(first.headers).toMatchObject({ "job-status": "running", range: "0-100" });
    expect(first.headers["content-type"]).toMatch(/^application\/json/);
    await client.patch(job, "two\n", { "content-range": "999-1002" });
    expect((await client.patch(job, "")).status).toBe(202);
    expect(local.trace).toBe("\none\n\ntwo\n");
    expect(local.liveText).toBe("one\ntwo\n");
    expect(local.patches.map(({ offset, size }) => [offset, size])).toEqual([
      [0, 4],
      [999, 4],
      [undefined, 0],
    ]);
    const done = await client.put(job, { state: "failed", trace: "one\ntwo\nthree\n", exit_code: 3 });
    expect([done.status, done.text, done.headers["job-status"]]).toEqual([200, "", undefined]);
    expect(local.trace).toBe("one\ntwo\nthree\n");
    expect(local).toMatchObject({ status: "failed", exitCode: 3, traceSize: 14 });
    // The coordinator accepts the piece even now, but does not show it.
    expect((await client.patch(job, "late")).headers["job-status"]).toBe("failed");
    expect(local.trace).toBe("one\ntwo\nthree\n");
  });

  test("without a trace in the last PUT the job has none", async () => {
    const { token } = coordinator.addRunner();
    const local = coordinator.enqueue();
    const job = await client.job(token);
    await client.patch(job, "text\n");
    await client.put(job, { state: "success" });
    expect(local.trace).toBe("");
  });

  test("a wrong token is 403; an unknown job and a missing or repeated token are 500", async () => {
    const { token } = coordinator.addRunner();
    coordinator.enqueue();
    const job = await client.job(token);
    const path = `jobs/${job.id}/trace`;
    expect((await client.patch({ ...job, token: "no" }, "x")).status).toBe(403);
    expect((await client.patch({ ...job, id: 1 }, "x")).status).toBe(500);
    expect((await client.call("PATCH", path, { body: "x" })).status).toBe(500);
    const twice = ["job-token", job.token, "job-token", job.token];
    expect((await client.call("PATCH", path, { headers: twice, body: "x" })).status).toBe(500);
  });

  test("a form body is an empty patch and a JSON one an error", async () => {
    const { token } = coordinator.addRunner();
    const local = coordinator.enqueue();
    const job = await client.job(token);
    expect((await client.patch(job, "lost", { "content-type": "application/x-www-form-urlencoded" })).status).toBe(202);
    expect((await client.patch(job, "text", { "content-type": "application/json" })).status).toBe(400);
    expect(local.liveText).toBe("");
  });

  test("a patch of more than 8,000,000 bytes is 500 and not stored", async () => {
    const { token } = coordinator.addRunner();
    const local = coordinator.enqueue();
    const job = await client.job(token);
    expect((await client.patch(job, Buffer.alloc(8_000_000, "a"))).status).toBe(202);
    expect((await client.patch(job, Buffer.alloc(8_000_001, "a"))).status).toBe(500);
    expect(local.liveSize).toBe(8_000_000);
  });

  test("bytes that are no UTF-8 are stored, then 500, while somebody watches", async () => {
    const { token } = coordinator.addRunner();
    const local = coordinator.enqueue();
    const job = await client.job(token);
    expect((await client.patch(job, Buffer.from([0xc3]))).status).toBe(500);
    expect(local.liveSize).toBe(1);
    coordinator.switches.watched = false;
    expect((await client.patch(job, Buffer.from([0xa9]))).status).toBe(202);
    expect(local.liveText).toBe("é");
  });
});

describe("updates", () => {
  test("no token is 400, a wrong one 403, another state or job 500, broken JSON 400", async () => {
    const { token } = coordinator.addRunner();
    const local = coordinator.enqueue();
    const job = await client.job(token);
    const path = `jobs/${job.id}`;
    expect((await client.json("PUT", path, { state: "success" })).status).toBe(400);
    expect((await client.put({ ...job, token: "no" }, { state: "success" })).status).toBe(403);
    expect((await client.put({ ...job, id: 1 }, { state: "success" })).status).toBe(500);
    expect((await client.put(job, { state: "pending" })).status).toBe(500);
    expect((await client.put(job, {})).status).toBe(500);
    const lone = `{"token":"${job.token}","state":"success","trace":"\\ud800"}`;
    const headers = { "content-type": "application/json" };
    expect((await client.call("PUT", path, { headers, body: lone })).status).toBe(400);
    expect(local.status).toBe("running");
    expect(local.updates.map(({ status }) => status)).toEqual([400, 403, 500, 500]);
  });

  test("a NUL in the trace ends the job without a trace, and every repetition is 500 too", async () => {
    const { token } = coordinator.addRunner();
    const local = coordinator.enqueue();
    const job = await client.job(token);
    await client.patch(job, "text\n");
    expect((await client.put(job, { state: "success", trace: "a\0b" })).status).toBe(500);
    expect(local).toMatchObject({ status: "success", trace: "" });
    expect((await client.put(job, { state: "success", trace: "a\0b" })).status).toBe(500);
    expect((await client.put(job, { state: "success", trace: "ab" })).status).toBe(200);
    expect(local.trace).toBe("ab");
  });

  test("a cancelled job says so to patches, keeps its state and takes the last trace", async () => {
    const { token } = coordinator.addRunner();
    const local = coordinator.enqueue();
    const job = await client.job(token);
    local.cancel();
    await local.finished();
    expect((await client.patch(job, "")).headers["job-status"]).toBe("cancelled");
    const reported = local.reported();
    expect((await client.put(job, { state: "failed", trace: "stopped\n" })).status).toBe(200);
    expect(await reported).toMatchObject({ state: "failed", traceBytes: 8 });
    expect(local).toMatchObject({ status: "cancelled", trace: "stopped\n" });
  });

  test("a body beyond the limit is 413", async () => {
    coordinator.switches.bodyLimitBytes = 300_000;
    const { token } = coordinator.addRunner();
    const local = coordinator.enqueue();
    const job = await client.job(token);
    expect((await client.put(job, { state: "success", trace: "x".repeat(300_000) })).status).toBe(413);
    expect(local.status).toBe("running");
    expect((await client.put(job, { state: "success", trace: "x".repeat(299_000) })).status).toBe(200);
  });
});

describe("artifacts", () => {
  const form = (
    name: string,
    filename: string | undefined,
    content: string,
  ): { headers: Record<string, string>; body: string } => ({
    headers: { "content-type": "multipart/form-data; boundary=XyZ" },
    body: `--XyZ\r\ncontent-disposition: form-data; name="${name}"${
      filename === undefined ? "" : `; filename="${filename}"`
    }\r\ncontent-type: application/octet-stream\r\n\r\n${content}\r\n--XyZ--\r\n`,
  });

  test("an upload needs declared artifacts and a file part; what was uploaded can be downloaded", async () => {
    const { token } = coordinator.addRunner();
    const local = coordinator.enqueue({ artifacts: { paths: ["out"] } });
    const plain = coordinator.enqueue();
    const job = await client.job(token);
    const other = await client.job(token);
    const send = (to: typeof job, part = form("file", "über.zip", "zip bytes"), query = "") =>
      client.call("POST", `jobs/${to.id}/artifacts${query}`, {
        ...part,
        headers: { ...part.headers, "job-token": to.token },
      });
    const get = (of: typeof job, headers = {}) =>
      client.call("GET", `jobs/${of.id}/artifacts`, { headers: { "job-token": of.token, ...headers } });

    expect((await get(job)).status).toBe(500);
    expect((await get(other)).status).toBe(404);
    expect((await send({ ...job, token: "no" })).status).toBe(403);
    expect((await send(other)).status).toBe(404);
    expect((await send(job, form("file", undefined, "a field"))).status).toBe(400);
    expect((await send(job, form("data", "x.zip", "another name"))).status).toBe(400);
    expect((await send(job, undefined, "?expire_in=1.5%20days")).status).toBe(500);
    const stored = await send(job, undefined, "?expire_in=2h20min");
    expect([stored.status, stored.text]).toEqual([201, ""]);
    expect(local.artifacts[0]).toMatchObject({
      filename: "über.zip",
      size: 9,
      expireIn: "2h20min",
      expiresInSeconds: 8400,
    });
    expect((await local.artifacts[0]?.read())?.toString()).toBe("zip bytes");
    // The second upload replaces the file but not its expiry.
    expect((await send(job, form("file", "b.zip", "two"), "?expire_in=1%20day")).status).toBe(201);
    expect(local.artifacts).toHaveLength(1);
    expect(local.artifacts[0]).toMatchObject({ filename: "b.zip", expireIn: "2h20min" });

    const got = await get(job);
    expect(got).toMatchObject({ status: 200, text: "two" });
    expect(got.headers).toMatchObject({
      "content-type": "application/octet-stream; charset=utf-8",
      "content-disposition": "attachment; filename=b.zip",
    });
    expect((await get(job, { accept: "application/zip" })).status).toBe(406);
    expect((await get(job, { accept: "*/*" })).status).toBe(200);
    expect((await get({ ...job, token: "no" })).status).toBe(403);
    expect((await get({ ...job, id: 1 })).status).toBe(500);
    await local.artifacts[0]?.remove();
    expect((await get(job)).status).toBe(500);
    expect(plain.artifacts).toEqual([]);

    coordinator.switches.bodyLimitBytes = 100;
    expect((await send(job, form("file", "c.zip", "x".repeat(200)))).status).toBe(413);
  });

  test("a dependency says where its artifacts are, with a made-up size", async () => {
    const { token } = coordinator.addRunner();
    const first = coordinator.enqueue({ name: "compile", artifacts: { paths: ["out"] } });
    const job = await client.job(token);
    const part = form("file", "artifacts.zip", "zip");
    await client.call("POST", `jobs/${job.id}/artifacts`, {
      ...part,
      headers: { ...part.headers, "job-token": job.token },
    });
    coordinator.enqueue({ dependencies: [first] });
    expect((await client.job(token)).dependencies).toEqual([
      { id: job.id, name: "compile", token: job.token, artifacts_file: { filename: "artifacts.zip", size: 2500 } },
    ]);
  });
});

describe("watching", () => {
  test("traceContains finds text across patches, and rejects when the job ends without it", async () => {
    const { token } = coordinator.addRunner();
    const local = coordinator.enqueue({ name: "watched" });
    const job = await client.job(token);
    const found = local.traceContains("hello world");
    const never = local.traceContains("something else");
    never.catch(() => undefined);
    await client.patch(job, "hello ");
    await client.patch(job, "world\n");
    await found;
    await client.put(job, { state: "success", trace: "hello world\nlast words\n" });
    await expect(never).rejects.toThrow(/watched.*success.*"something else"[\s\S]*last words/);
    await local.traceContains("last words");
    await expect(local.traceContains("x", { timeoutMs: 5 })).rejects.toThrow();
    await expect(coordinator.enqueue().finished({ timeoutMs: 5 })).rejects.toThrow(/After 5 ms.*finish; it is pending/);
  });

  test("counted traces keep size, checksum and markers only", async () => {
    coordinator.switches.storeTrace = "count";
    coordinator.switches.traceMarker = "@mark ";
    const { token } = coordinator.addRunner();
    const local = coordinator.enqueue();
    const job = await client.job(token);
    for (const piece of ["a\n@ma", "rk 1\nxx", "x @mark 2\n@mark 3", "\n"]) await client.patch(job, piece);
    expect(local.markers.map(({ text }) => text)).toEqual(["@mark 1", "@mark 2", "@mark 3"]);
    const whole = "a\n@mark 1\nxxx @mark 2\n@mark 3\n";
    await client.put(job, { state: "success", trace: whole });
    expect([local.trace, local.liveText, local.traceSize, local.liveSize]).toEqual([
      "",
      "",
      whole.length,
      whole.length,
    ]);
    const { crc32 } = await import("node:zlib");
    expect(local.traceCrc32).toBe(crc32(whole));
  });
});
