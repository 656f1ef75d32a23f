import { crc32 } from "node:zlib";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type LocalCoordinator, startCoordinator } from "../../src/local/coordinator/coordinator.ts";
import { never, pause } from "../../src/time.ts";
import { type Client, createClient } from "./client.ts";

let coordinator: LocalCoordinator;
let client: Client;

beforeEach(async () => {
  coordinator = await startCoordinator({ dialect: "gitlab", registrationToken: "REG", objectStorage: true });
  client = createClient(coordinator);
});

afterEach(async () => {
  await client.close();
  await coordinator.close();
});

describe("runners", () => {
  test("registering gives a token that never expires, unless it is forbidden, gone or refused", async () => {
    const good = await client.json("POST", "runners", { token: "REG", tag_list: "a, b", run_untagged: false });
    expect(good.status).toBe(201);
    expect(JSON.parse(good.text)).toEqual({ id: 1, token: expect.stringMatching(/^glrtr-/), token_expires_at: null });
    expect(coordinator.runners[0]).toMatchObject({ tags: ["a", "b"], runUntagged: false });
    const forbidden = await client.json("POST", "runners", { token: "no" });
    expect([forbidden.status, forbidden.text]).toEqual([403, '{"message":"403 Forbidden"}']);
    const untaggable = await client.json("POST", "runners", { token: "REG", run_untagged: false });
    expect([untaggable.status, JSON.parse(untaggable.text).message]).toMatchObject([
      400,
      { tags_list: [expect.anything()] },
    ]);
    coordinator.switches.registration = "refused";
    expect((await client.json("POST", "runners", { token: "REG" })).status).toBe(400);
    coordinator.switches.registration = "disabled";
    expect((await client.json("POST", "runners", { token: "REG" })).status).toBe(410);
  });

  test("verify answers with JSON, or with bare text as old versions do", async () => {
    const { id, token } = coordinator.addRunner();
    expect(token).toMatch(/^glrt-/);
    const good = await client.json("POST", "runners/verify", { token, system_id: "s_0123456789ab" });
    expect(JSON.parse(good.text)).toEqual({ id, token, token_expires_at: null });
    expect((await client.json("POST", "runners/verify", { token: "no" })).status).toBe(403);
    coordinator.switches.verifyAsText = true;
    const old = await client.json("POST", "runners/verify", { token });
    expect([old.status, old.text, old.headers["content-type"]]).toEqual([200, "200", "text/plain"]);
  });

  test("a manager is removed once, the runner by its token, and a token can be exchanged", async () => {
    const { token } = coordinator.addRunner();
    await client.json("POST", "runners/verify", { token, system_id: "s_0123456789ab" });
    const remove = (body: unknown) => client.json("DELETE", "runners/managers", body);
    expect((await remove({ token })).status).toBe(400);
    expect((await remove({ token: "no", system_id: "s_0123456789ab" })).status).toBe(403);
    expect((await remove({ token, system_id: "s_0123456789ab" })).status).toBe(204);
    expect((await remove({ token, system_id: "s_0123456789ab" })).status).toBe(404);
    const fresh = JSON.parse((await client.json("POST", "runners/reset_authentication_token", { token })).text).token;
    expect((await client.json("DELETE", "runners", { token })).status).toBe(403);
    expect((await client.json("DELETE", "runners", { token: fresh })).status).toBe(204);
    expect((await client.call("GET", "runners/router/discovery")).status).toBe(501);
  });
});

describe("job requests", () => {
  test("an unknown token is 403, a body beyond 32 KiB 413, no work a 204 with a version", async () => {
    const { token } = coordinator.addRunner();
    expect((await client.requestJob("no")).status).toBe(403);
    expect((await client.requestJob(token, { filler: "x".repeat(32_768) })).status).toBe(413);
    const none = await client.requestJob(token);
    expect([none.status, none.headers["x-gitlab-last-update"]]).toEqual([204, expect.stringMatching(/^[0-9a-f]{32}$/)]);
  });

  test("a current version is answered at once without long polling, and work changes it", async () => {
    const { token } = coordinator.addRunner();
    const version = (await client.requestJob(token)).headers["x-gitlab-last-update"];
    expect((await client.requestJob(token, { last_update: version })).headers["x-gitlab-last-update"]).toBe(version);
    coordinator.enqueue();
    const got = await client.requestJob(token, { last_update: version });
    expect(got.status).toBe(201);
    expect(got.headers).not.toHaveProperty("x-gitlab-last-update");
    expect((await client.requestJob(token, { last_update: version })).headers["x-gitlab-last-update"]).not.toBe(
      version,
    );
  });

  test("a held request ends in a bare 204 when there is work, and the next one gets it", async () => {
    coordinator.switches.longPollMs = 60_000;
    const { token } = coordinator.addRunner();
    const other = coordinator.addRunner({ tags: ["never"] });
    const version = (await client.requestJob(token)).headers["x-gitlab-last-update"];
    const otherVersion = (await client.requestJob(other.token)).headers["x-gitlab-last-update"];
    const held = client.requestJob(token, { last_update: version });
    const foreign = client.requestJob(other.token, { last_update: otherVersion });
    foreign.catch(() => undefined);
    await coordinator.waitForRequest(
      () => coordinator.requests.filter(({ heldAt }) => heldAt !== undefined).length === 2,
    );
    coordinator.enqueue();
    const answer = await held;
    expect(answer.status).toBe(204);
    expect(answer.headers).not.toHaveProperty("x-gitlab-last-update");
    expect((await client.requestJob(token, { last_update: version })).status).toBe(201);
    // The other runner may not take the job, so its request is held until the coordinator is closed.
    expect(coordinator.requests.filter(({ endedAt }) => endedAt === undefined)).toHaveLength(1);
    await coordinator.close();
    await expect(foreign).rejects.toThrow();
  });

  test("a held request ends by itself, and one without a version is never held", async () => {
    coordinator.switches.longPollMs = 30;
    const { token } = coordinator.addRunner();
    const version = (await client.requestJob(token)).headers["x-gitlab-last-update"];
    const answer = await client.requestJob(token, { last_update: version });
    expect(answer.status).toBe(204);
    expect(answer.headers).not.toHaveProperty("x-gitlab-last-update");
    coordinator.switches.longPollMs = 60_000;
    expect((await client.requestJob(token)).headers["x-gitlab-last-update"]).toBe(version);
  });

  test("a caller who hangs up while held leaves nothing behind", async () => {
    coordinator.switches.longPollMs = 60_000;
    const { token } = coordinator.addRunner();
    const version = (await client.requestJob(token)).headers["x-gitlab-last-update"];
    const impatient = createClient(coordinator);
    const held = impatient.requestJob(token, { last_update: version });
    const seen = await coordinator.waitForRequest(({ heldAt }) => heldAt !== undefined);
    await impatient.close();
    await expect(held).rejects.toThrow();
    await coordinator.waitForRequest((request) => request === seen && request.endedAt !== undefined);
    expect(seen.status).toBeUndefined();
  });

  test("paused runners get nothing, tags and run_untagged are obeyed", async () => {
    const paused = coordinator.addRunner({ paused: true });
    const picky = coordinator.addRunner({ tags: ["a"] });
    const open = coordinator.addRunner({ tags: ["a", "b"], runUntagged: true });
    const first = coordinator.enqueue();
    const second = coordinator.enqueue({ tags: ["a"] });
    expect((await client.requestJob(paused.token)).status).toBe(204);
    expect((await client.job(picky.token)).id).toBe(Number(second.id));
    expect((await client.requestJob(picky.token)).status).toBe(204);
    expect((await client.job(open.token)).id).toBe(Number(first.id));
    paused.paused = false;
    coordinator.enqueue();
    expect((await client.requestJob(paused.token)).status).toBe(201);
  });

  test("the payload is canonical", async () => {
    const { token } = coordinator.addRunner();
    coordinator.enqueue({
      variables: [
        { key: "A", value: 5 },
        { key: "B", value: "secret", masked: true },
        { key: "C", value: "text", file: true },
      ],
      afterScript: "bye",
      git: { repoUrl: "https://gitlab.example/g/p.git", sha: "c".repeat(40), ref: "main", depth: 20 },
    });
    const job = await client.job(token);
    expect(job.token).toMatch(/^glcbt-/);
    expect(job).toMatchObject({
      image: null,
      artifacts: null,
      cache: [],
      credentials: [],
      git_info: { ref: "main", refspecs: ["+refs/heads/main:refs/remotes/origin/main"], depth: 20 },
      features: { trace_sections: true },
      steps: [{ name: "script" }, { name: "after_script", script: ["bye"] }],
    });
    expect(job.variables).toEqual(
      expect.arrayContaining([
        { key: "A", value: "5", public: true, masked: false, file: false, raw: false },
        { key: "B", value: "secret", public: false, masked: true, file: false, raw: false },
        { key: "C", value: "text", public: true, masked: false, file: true, raw: false },
      ]),
    );
  });
});

describe("traces", () => {
  test("offsets are enforced, and ranges and the interval are told", async () => {
    const { token } = coordinator.addRunner();
    const local = coordinator.enqueue();
    const job = await client.job(token);
    expect((await client.patch(job, "abc")).status).toBe(400);
    const first = await client.patch(job, "abc", { "content-range": "0-2" });
    expect(first.status).toBe(202);
    expect(first.headers).toMatchObject({
      range: "0-3",
      "job-status": "running",
      "x-gitlab-trace-update-interval": "3",
    });
    const gap = await client.patch(job, "x", { "content-range": "9-9" });
    expect([gap.status, gap.headers.range]).toEqual([416, "0-3"]);
    expect((await client.patch(job, "abc", { "content-range": "0-2" })).status).toBe(416);
    coordinator.switches.watched = false;
    const next = await client.patch(job, "def", { "content-range": "3-5" });
    expect(next.headers).toMatchObject({ range: "0-6", "x-gitlab-trace-update-interval": "60" });
    expect(local.trace).toBe("abcdef");
    expect((await client.patch({ ...job, token: "no" }, "x")).status).toBe(403);
    expect((await client.patch({ ...job, id: 1 }, "x")).status).toBe(403);
  });

  test("a finished job is 403 with its state, for patches, updates and uploads", async () => {
    const { token } = coordinator.addRunner();
    coordinator.enqueue();
    const job = await client.job(token);
    const done = await client.put(job, { state: "success", trace: "ignored" });
    expect([done.status, done.headers["job-status"]]).toEqual([200, "success"]);
    for (const answer of [
      await client.patch(job, "x", { "content-range": "0-0" }),
      await client.put(job, { state: "failed" }),
      await client.call("POST", `jobs/${job.id}/artifacts`, { headers: { "job-token": job.token }, body: "" }),
    ])
      expect([answer.status, answer.headers["job-status"]]).toEqual([403, "success"]);
  });

  test("a trace beyond the project's limit fails the job", async () => {
    coordinator.switches.traceLimitBytes = 5;
    const { token } = coordinator.addRunner();
    const local = coordinator.enqueue();
    const job = await client.job(token);
    expect((await client.patch(job, "123456", { "content-range": "0-5" })).status).toBe(403);
    expect(local).toMatchObject({ status: "failed", trace: "" });
  });
});

describe("updates", () => {
  test("checksum and size are kept, the trace is ignored, other states are 400", async () => {
    const { token } = coordinator.addRunner();
    const local = coordinator.enqueue();
    const job = await client.job(token);
    await client.patch(job, "text\n", { "content-range": "0-4" });
    expect((await client.put(job, { state: "running" })).headers["job-status"]).toBe("running");
    expect((await client.put(job, { state: "nonsense" })).status).toBe(400);
    const checksum = `crc32:${crc32("text\n").toString(16).padStart(8, "0")}`;
    await client.put(job, {
      state: "failed",
      failure_reason: "script_failure",
      exit_code: 2,
      output: { checksum, bytesize: 5 },
      trace: "other",
    });
    expect(local).toMatchObject({ status: "failed", trace: "text\n", exitCode: 2, failureReason: "script_failure" });
    expect(local.updates.at(-1)).toMatchObject({ checksum, bytes: 5, traceBytes: 5, status: 200 });
    expect(`crc32:${local.traceCrc32.toString(16).padStart(8, "0")}`).toBe(checksum);
  });

  test("a final update can be accepted without being stored, a number of times", async () => {
    coordinator.switches.unstoredUpdates = 2;
    const { token } = coordinator.addRunner();
    const local = coordinator.enqueue();
    const job = await client.job(token);
    const answers = [];
    for (let count = 0; count < 3; count++) answers.push(await client.put(job, { state: "success" }));
    expect(answers.map(({ status }) => status)).toEqual([202, 202, 200]);
    expect(answers[0]?.headers["x-gitlab-trace-update-interval"]).toBe("1");
    expect(local.status).toBe("success");
  });

  test("a cancel is graceful where the runner can do that: canceling, then canceled", async () => {
    const { token } = coordinator.addRunner();
    const local = coordinator.enqueue();
    const blunt = coordinator.enqueue();
    const info = { features: { cancel_gracefully: true } };
    const job = JSON.parse((await client.requestJob(token, { info })).text);
    local.cancel();
    expect(local.status).toBe("canceling");
    expect((await client.patch(job, "", { "content-range": "0-0" })).headers["job-status"]).toBe("canceling");
    expect((await client.put(job, { state: "running" })).headers["job-status"]).toBe("canceling");
    const done = await client.put(job, { state: "failed" });
    expect([done.status, done.headers["job-status"], local.status]).toEqual([200, "canceled", "canceled"]);

    const other = JSON.parse((await client.requestJob(token, { info: {} })).text);
    blunt.cancel();
    expect(blunt.status).toBe("canceled");
    const refused = await client.put(other, { state: "failed" });
    expect([refused.status, refused.headers["job-status"]]).toEqual([403, "canceled"]);
    expect(await blunt.reported()).toMatchObject({ status: 403 });
  });

  test("a job that has to be acknowledged is pending until then", async () => {
    const { token } = coordinator.addRunner();
    const local = coordinator.enqueue();
    const job = JSON.parse(
      (await client.requestJob(token, { info: { features: { two_phase_job_commit: true } } })).text,
    );
    expect(local.status).toBe("pending");
    expect((await client.requestJob(token)).status).toBe(204);
    expect((await client.put(job, { state: "success" })).status).toBe(400);
    expect((await client.put(job, { state: "pending" })).status).toBe(200);
    expect((await client.put(job, { state: "running" })).status).toBe(200);
    expect(local.status).toBe("running");
    expect((await client.put(job, { state: "pending" })).status).toBe(400);
  });

  test("a job that is not acknowledged in time is dropped, and another takes its place", async () => {
    coordinator.switches.acknowledgeTimeoutMs = 150;
    const { token } = coordinator.addRunner();
    const features = { info: { features: { two_phase_job_commit: true } } };
    const local = coordinator.enqueue({ name: "once more", id: "77" });
    const job = JSON.parse((await client.requestJob(token, features)).text);
    for (const since = performance.now(); performance.now() - since < 400; ) {
      expect((await client.put(job, { state: "pending" })).status).toBe(200);
      await pause(20, never);
    }
    await local.finished();
    expect(local).toMatchObject({ status: "failed", failureReason: "runner_provisioning_timeout" });
    expect((await client.put(job, { state: "running" })).status).toBe(403);
    expect(JSON.parse((await client.requestJob(token, features)).text).id).toBe(Number(local.retriedAs?.id));
    expect(local.retriedAs?.name).toBe("once more");
  });
});

describe("artifacts", () => {
  const send = (job: { id: number; token: string }, content: string, query = "") =>
    client.call("POST", `jobs/${job.id}/artifacts${query}`, {
      headers: { "content-type": 'multipart/form-data; boundary="b"', "job-token": job.token },
      body: `--b\r\nContent-Disposition: form-data; name="file"; filename="a.zip"\r\n\r\n${content}\r\n--b--`,
    });

  test("several types per job; downloads go to any origin without asking for the token there", async () => {
    const { token } = coordinator.addRunner();
    const local = coordinator.enqueue();
    const job = await client.job(token);
    const get = (query = "") =>
      client.call("GET", `jobs/${job.id}/artifacts${query}`, { headers: { "job-token": job.token } });
    expect((await get()).status).toBe(404);
    expect((await send(job, "archive", "?artifact_type=archive&artifact_format=zip&expire_in=1d")).status).toBe(201);
    expect((await send(job, "report", "?artifact_type=junit&artifact_format=gzip")).status).toBe(201);
    expect(local.artifacts.map(({ type, format }) => [type, format])).toEqual([
      ["archive", "zip"],
      ["junit", "gzip"],
    ]);
    expect((await get("?direct_download=true")).text).toBe("archive");
    coordinator.switches.directDownload = true;
    expect((await get()).status).toBe(200);
    const redirect = await get("?direct_download=true");
    expect(redirect.status).toBe(302);
    const location = String(redirect.headers.location);
    expect(new URL(location).origin).not.toBe(new URL(coordinator.url).origin);
    expect(await (await fetch(location)).text()).toBe("archive");
    expect((await fetch(location.replace(/.$/, ""))).status).toBe(403);
    const seen = await coordinator.waitForRequest(({ path }) => path.startsWith("/artifacts/"));
    expect(seen.headers).not.toHaveProperty("job-token");
  });

  test("a dependency tells the true size", async () => {
    const { token } = coordinator.addRunner();
    const first = coordinator.enqueue({ name: "compile" });
    const job = await client.job(token);
    await send(job, "archive");
    coordinator.enqueue({ dependencies: [first] });
    expect((await client.job(token)).dependencies).toMatchObject([{ artifacts_file: { filename: "a.zip", size: 7 } }]);
  });

  test("uploads can be switched off, and too large ones are refused before they are all there", async () => {
    const { token } = coordinator.addRunner();
    coordinator.enqueue();
    const job = await client.job(token);
    coordinator.switches.artifactsEnabled = false;
    expect((await send(job, "x")).status).toBe(405);
    coordinator.switches.artifactsEnabled = true;
    coordinator.switches.bodyLimitBytes = 1_000_000;
    expect((await send(job, "x".repeat(5_000_000))).status).toBe(413);
    expect((await send(job, "x")).status).toBe(201);
  });
});
