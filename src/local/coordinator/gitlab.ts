import { pause } from "../../time.ts";
import { until } from "./channel.ts";
import { badRequest, forbidden, isReply, tooLarge } from "./gitlab-replies.ts";
import type { Call } from "./http/http.ts";
import { hangUp, headerText, json, readParameters } from "./http/parameters.ts";
import type { Reply } from "./http/reply.ts";
import { receiveUpload } from "./http/uploads.ts";
import { isWire, textAt, type Wire } from "./http/wire.ts";
import { createAcknowledgements } from "./jobs/acknowledgement.ts";
import { isOver } from "./jobs/job.ts";
import type { JobRecord } from "./jobs/job-record.ts";
import { jobPayload } from "./jobs/payload.ts";
import { nextJob } from "./jobs/queue.ts";
import { noteUpdate, readUpdate, type Update } from "./jobs/update.ts";
import { createToken, hasFeature, type LocalRunner } from "./runners.ts";
import type { Handlers, State } from "./state.ts";

/** GitLab, as a runner sees it through Workhorse. */
export function gitlabHandlers(state: State): Handlers {
  const { switches, runners, jobs, shelf } = state;
  const acknowledgements = createAcknowledgements(
    () => switches.acknowledgeTimeoutMs,
    ({ spec: { id: _id, token: _token, ...spec } }) => jobs.enqueue(spec),
  );
  const limits = () => ({ limitBytes: switches.bodyLimitBytes, stallTimeoutMs: switches.stallTimeoutMs });

  const withParameters =
    (handler: (values: Wire, call: Call) => Promise<Reply> | Reply, limitBytes?: () => number) =>
    async (call: Call): Promise<Reply> => {
      const parameters = await readParameters(
        call,
        { ...limits(), limitBytes: (limitBytes ?? (() => switches.bodyLimitBytes))() },
        tooLarge,
      );
      return parameters.refused ?? (await handler(parameters.values, call));
    };

  const learn = (runner: LocalRunner, values: Wire): void => {
    if (isWire(values.info)) runners.learn(runner, values.info);
    const systemId = textAt(values, "system_id");
    if (systemId !== undefined) runner.systemIds.add(systemId);
  };

  const tokenOf = ({ id, token, tokenExpiresAt }: LocalRunner) => ({ id, token, token_expires_at: tokenExpiresAt });
  const expiry = (): string | null => {
    const { tokenLifeSeconds } = switches;
    return tokenLifeSeconds === undefined ? null : new Date(Date.now() + tokenLifeSeconds * 1000).toISOString();
  };

  const register = withParameters((values) => {
    if (switches.registration === "disabled") return json(410, { message: "410 Gone" });
    if (switches.registration === "refused")
      return json(400, { message: { base: ["runner registration is refused"] } });
    const project = state.projects.find(({ registrationToken }) => registrationToken === values.token);
    if (values.token !== state.registrationToken && project === undefined) return forbidden;
    const tags = (textAt(values, "tag_list") ?? "")
      .split(",")
      .flatMap((tag) => (tag.trim() === "" ? [] : [tag.trim()]));
    const runUntagged = values.run_untagged !== false;
    if (tags.length === 0 && !runUntagged) {
      const problem = "can not be empty when runner is not allowed to pick untagged jobs";
      return json(400, { message: { tags_list: [problem] } });
    }
    const runner = runners.add({
      description: textAt(values, "description") ?? "",
      tags,
      runUntagged,
      projectId: project?.id ?? null,
      paused: values.paused === true || values.active === false,
      token: createToken("gitlab", "glrtr-"),
      tokenExpiresAt: expiry(),
    });
    learn(runner, values);
    return json(201, tokenOf(runner));
  });

  const verify = withParameters((values) => {
    const runner = runners.find(values.token);
    if (runner === undefined) return forbidden;
    learn(runner, values);
    if (switches.verifyAsText) return { status: 200, headers: { "content-type": "text/plain" }, body: "200" };
    return json(200, tokenOf(runner));
  });

  const unregister = withParameters((values) => {
    const runner = runners.find(values.token);
    if (runner === undefined) return forbidden;
    runners.remove(runner);
    return { status: 204 };
  });

  const unregisterManager = withParameters((values) => {
    const systemId = textAt(values, "system_id");
    if (values.token === undefined || systemId === undefined) return badRequest("system_id is missing");
    const runner = runners.find(values.token);
    if (runner === undefined) return forbidden;
    return runner.systemIds.delete(systemId) ? { status: 204 } : json(404, { message: "404 Runner manager Not Found" });
  });

  const resetToken = withParameters((values, call) => {
    const personal = call.header("private-token");
    const admitted = personal !== undefined && personal === switches.personalToken;
    const runner =
      call.id === undefined
        ? runners.find(values.token)
        : admitted
          ? runners.all.find(({ id }) => String(id) === call.id)
          : undefined;
    if (runner === undefined) return forbidden;
    runner.token = createToken("gitlab", "glrt-");
    runner.tokenExpiresAt = expiry();
    const { id: _, ...answer } = tokenOf(runner);
    return json(201, answer);
  });

  /** Workhorse holds a request whose `last_update` is the newest, and answers a bare 204: ask again. */
  const hold = async (runner: LocalRunner, call: Call): Promise<Reply> => {
    const version = runners.version(runner);
    const wait = { timeoutMs: switches.longPollMs, signal: call.signal };
    const changed = (): true | undefined => (runners.version(runner) === version ? undefined : true);
    call.held();
    await until(runners.bumped, changed, () => "work", wait).catch((error: unknown) => {
      if (call.signal.aborted) throw error;
    });
    return { status: 204 };
  };

  const requestJob = withParameters(
    async (values, call) => {
      const runner = runners.find(values.token);
      if (runner === undefined) return forbidden;
      learn(runner, values);
      const current = values.last_update === runners.version(runner);
      const holds = switches.longPollMs > 0;
      const polling = holds ? { "gitlab-ci-builds-polling": "yes" } : {};
      if (current && holds && !runner.paused) return { ...(await hold(runner, call)), headers: polling };
      const none = { status: 204, headers: { ...polling, "x-gitlab-last-update": runners.version(runner) } };
      if (runner.paused || current) return none;
      if (switches.jobRequestDelayMs > 0) await pause(switches.jobRequestDelayMs, call.closing);
      // Asked for again: the version that is told must be older than what was not seen.
      const job = nextJob(jobs.all, runner, "gitlab");
      if (job === undefined)
        return { ...none, headers: { ...polling, "x-gitlab-last-update": runners.version(runner) } };
      const waits = switches.twoPhaseCommit && hasFeature(runner, "two_phase_job_commit");
      job.assign(runner, waits ? "pending" : "running", call.request);
      if (waits) acknowledgements.expect(job, call.closing);
      return json(201, jobPayload(job, runner, "gitlab", state.url()), polling);
    },
    () => switches.requestLimitBytes,
  );

  /** The job, or 403; a job that is over says so in `Job-Status`. */
  const authorized = (call: Call, token: unknown, options: { evenIfOver: boolean }): JobRecord | Reply => {
    const job = jobs.find(call.id);
    if (job === undefined || token !== job.token) return forbidden;
    if (isOver(job.status) && !options.evenIfOver)
      return json(403, { message: "403 Forbidden  - Job is not running" }, { "job-status": job.status });
    return job;
  };

  const interval = (): Readonly<Record<string, string>> => ({
    "x-gitlab-trace-update-interval": String(switches.traceIntervalSeconds ?? (switches.watched ? 3 : 60)),
  });

  const appendTrace = async (call: Call): Promise<Reply> => {
    const pieces: Buffer[] = [];
    const end = await call.body(limits(), (chunk) => void pieces.push(chunk));
    if (end === "too_large") return tooLarge;
    if (end !== "complete") return hangUp;
    const job = authorized(call, call.header("job-token"), { evenIfOver: false });
    if (isReply(job)) return job;
    const range = call.header("content-range");
    if (range === undefined) return badRequest("Missing header Content-Range");
    const start = Number.parseInt(range, 10) || 0;
    if (start !== job.liveSize)
      return json(
        416,
        { message: "416 Range Not Satisfiable" },
        { range: `0-${job.liveSize}`, "job-status": job.status },
      );
    const bytes = Buffer.concat(pieces);
    if (start + bytes.length > switches.traceLimitBytes) {
      job.setStatus("failed");
      return json(403, { message: "403 Forbidden  - Trace size limit exceeded" }, { "job-status": job.status });
    }
    job.append(bytes, start);
    const headers = { ...interval(), "job-status": job.status, range: `0-${job.liveSize}` };
    return json(202, { message: "202 Accepted" }, headers);
  };

  const updateJob = async (call: Call): Promise<Reply> => {
    const job = jobs.find(call.id);
    // `trace` is no parameter of this call any more: it goes nowhere.
    const update = await readUpdate(call, undefined, limits());
    if (update === "too_large") return tooLarge;
    if (update === "malformed") return badRequest("the body is not JSON");
    if (update === "gone") return hangUp;
    const reply = applyUpdate(call, update);
    if (job !== undefined) noteUpdate(job, update, reply.status);
    return reply;
  };

  const applyUpdate = (call: Call, { fields }: Update): Reply => {
    const job = authorized(call, fields.token ?? call.header("job-token"), { evenIfOver: false });
    if (isReply(job)) return job;
    const next = fields.state;
    const done = (): Reply => json(200, "200", { "job-status": job.status });
    const early = acknowledgements.answer(job, next);
    if (early !== undefined) return early;
    if (next === "running") return done();
    if (next !== "success" && next !== "failed") return badRequest("Invalid state");
    if (switches.unstoredUpdates > 0) {
      switches.unstoredUpdates--;
      return json(202, "202 Accepted", { "x-gitlab-trace-update-interval": "1", "job-status": job.status });
    }
    job.setStatus(job.status === "canceling" ? "canceled" : next);
    return done();
  };

  const upload = async (call: Call): Promise<Reply> => {
    const refusal = authorized(call, call.header("job-token"), { evenIfOver: false });
    if (isReply(refusal)) return refusal;
    if (!switches.artifactsEnabled) return json(405, { message: "405 Method Not Allowed" });
    if (Number(call.header("content-length") ?? 0) > switches.bodyLimitBytes) return tooLarge;
    const received = await receiveUpload(call, shelf, limits());
    if (received === "too_large") return tooLarge;
    if (received === "gone") return hangUp;
    if (received === "no_multipart" || received === "malformed") return badRequest("file is missing");
    if (received.file === undefined) return badRequest("file is missing");
    const expireIn = call.query.get("expire_in") ?? undefined;
    const job = authorized(call, call.header("job-token"), { evenIfOver: false });
    if (isReply(job)) {
      await received.discard();
      return job;
    }
    job.addArtifact(
      received.file.content.keep({
        filename: received.file.filename,
        type: call.query.get("artifact_type") ?? "archive",
        format: call.query.get("artifact_format") ?? undefined,
        expireIn,
        expiresInSeconds: undefined,
      }),
    );
    return json(201, "201 Created");
  };

  const serveArtifact = async (job: JobRecord): Promise<Reply> => {
    const artifact = job.artifacts.find(({ type }) => type === "archive");
    const stream = await artifact?.open();
    if (artifact === undefined || stream === undefined) return json(404, { message: "404 Not Found" });
    return {
      status: 200,
      headers: {
        "content-type": "application/octet-stream",
        "content-disposition": `attachment; filename="${headerText(artifact.filename).replaceAll('"', "_")}"`,
        "content-length": String(artifact.size),
      },
      body: stream,
    };
  };

  const download = async (call: Call): Promise<Reply> => {
    const job = authorized(call, call.header("job-token"), { evenIfOver: true });
    if (isReply(job)) return job;
    const storage = state.storageUrl();
    if (!switches.directDownload || storage === undefined || call.query.get("direct_download") !== "true")
      return await serveArtifact(job);
    return { status: 302, headers: { location: `${storage}/artifacts/${job.id}?signature=${job.token.slice(-8)}` } };
  };

  /** The object storage's side of a direct download: the URL is the key, and a token is none of its business. */
  const storage = async (call: Call): Promise<Reply> => {
    const job = jobs.find(/^\/artifacts\/(\d+)\?/.exec(call.path)?.[1]);
    if (job === undefined || call.query.get("signature") !== job.token.slice(-8))
      return {
        status: 403,
        headers: { "content-type": "application/xml" },
        body: "<Error><Code>AccessDenied</Code></Error>",
      };
    return await serveArtifact(job);
  };

  return {
    register,
    verify,
    unregister,
    unregister_manager: unregisterManager,
    reset_token: resetToken,
    discovery: async () => json(501, { message: "501 Not Implemented" }),
    job_request: requestJob,
    trace: appendTrace,
    update: updateJob,
    upload,
    download,
    storage,
    other: async () => json(404, { error: "404 Not Found" }),
  };
}
