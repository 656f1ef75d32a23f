import { isUtf8 } from "node:buffer";
import { pause } from "../../time.ts";
import type { Call } from "./http/http.ts";
import { hangUp, headerText, json, mediaType, readParameters } from "./http/parameters.ts";
import type { Reply } from "./http/reply.ts";
import { receiveUpload } from "./http/uploads.ts";
import { isWire, textAt, type Wire } from "./http/wire.ts";
import { alloyExpirySeconds } from "./jobs/artifacts.ts";
import { isOver, listOf } from "./jobs/job.ts";
import type { JobRecord } from "./jobs/job-record.ts";
import { jobPayload } from "./jobs/payload.ts";
import { nextJob } from "./jobs/queue.ts";
import { noteUpdate, readUpdate } from "./jobs/update.ts";
import type { LocalRunner } from "./runners.ts";
import type { Handlers, State } from "./state.ts";

/** After a refusal Cowboy reads on for so long and then closes the connection, whatever the caller is doing. */
const LINGER_BYTES = 1_000_000;
const tooLarge: Reply = { status: 413, lingerBytes: LINGER_BYTES };
const crash: Reply = { status: 500, headers: { "content-type": "text/plain" }, body: "Internal Server Error" };
const empty = (status: number): Reply => ({ status });

/** AlloyCI 0.9.1, with what it gets wrong. */
export function alloyHandlers(state: State): Handlers {
  const { switches, runners, jobs, shelf } = state;
  const limits = () => ({ limitBytes: switches.bodyLimitBytes, stallTimeoutMs: switches.stallTimeoutMs });
  let duplicate: JobRecord | undefined;

  /** The formats of its API are json and text; any other wish is refused. */
  const acceptable =
    (handler: (call: Call) => Promise<Reply>) =>
    async (call: Call): Promise<Reply> => {
      const wishes = (call.header("accept") ?? "*/*")
        .split(",")
        .map((wish) => wish.split(";")[0]?.trim().toLowerCase());
      const fine = ["*/*", "application/*", "text/*", "application/json", "text/plain", ""];
      return wishes.some((wish) => fine.includes(wish ?? "")) ? await handler(call) : empty(406);
    };

  const withParameters = (handler: (values: Wire, call: Call) => Promise<Reply> | Reply) =>
    acceptable(async (call) => {
      const parameters = await readParameters(call, limits(), tooLarge);
      return parameters.refused ?? (await handler(parameters.values, call));
    });

  const register = withParameters((values) => {
    const { info } = values;
    if (!isWire(info)) return crash;
    const description = textAt(values, "description") ?? "";
    const project = state.projects.find(({ registrationToken }) => registrationToken === values.token);
    const known = values.token === state.registrationToken || project !== undefined;
    if (!known || description === "" || (textAt(info, "name") ?? "") === "") return empty(403);
    const tagList = textAt(values, "tag_list") ?? "";
    const runner = runners.add({
      description,
      // Not trimmed, and `run_untagged` cannot be switched off.
      tags: tagList === "" ? null : tagList.split(","),
      runUntagged: true,
      projectId: project?.id ?? null,
    });
    runner.info = info;
    return json(201, { id: runner.id, token: runner.token });
  });

  const verify = withParameters((values) => {
    if (values.token === undefined || values.token === null) return crash;
    return empty(runners.find(values.token) === undefined ? 403 : 200);
  });

  const unregister = withParameters((values) => {
    if (values.token === undefined) return empty(400);
    const runner = runners.find(values.token);
    if (runner === undefined) return empty(403);
    runners.remove(runner);
    return empty(204);
  });

  /** A job whose dependency declared artifacts and has none: building its payload fails, for every caller. */
  const isPoison = (job: JobRecord): boolean =>
    switches.missingArtifacts === "poison" &&
    (job.spec.dependencies ?? []).some(({ spec, artifacts }) => declaresArtifacts(spec) && artifacts.length === 0);

  const choose = (runner: LocalRunner): JobRecord | undefined => {
    if (duplicate !== undefined && switches.duplicateJobs > 0 && !isOver(duplicate.status)) {
      switches.duplicateJobs--;
      return duplicate;
    }
    const job = nextJob(jobs.all, runner, "alloy");
    duplicate = switches.duplicateJobs > 0 ? job : undefined;
    return job;
  };

  const requestJob = withParameters(async (values, call) => {
    const { token, info } = values;
    if (token === undefined || token === null) return crash;
    if (info === undefined) return empty(400);
    const runner = runners.find(token);
    if (runner === undefined) return empty(401);
    if (!isWire(info)) return empty(400);
    runners.learn(runner, info);
    const job = choose(runner);
    if (switches.jobRequestDelayMs > 0) await pause(switches.jobRequestDelayMs, call.closing);
    if (job === undefined) return empty(204);
    if (isPoison(job)) return crash;
    // Nobody looks again whether the job is still free.
    if (!isOver(job.status)) job.assign(runner, "running", call.request);
    return json(201, jobPayload(job, runner, "alloy", state.url()));
  });

  /** The job, or what AlloyCI answers: it crashes over unknown ids and over a header that is not there exactly once. */
  const authorized = (call: Call): JobRecord | Reply => {
    const token = call.header("job-token");
    const job = jobs.find(call.id);
    if (token === undefined || job === undefined) return crash;
    return token === job.token ? job : empty(403);
  };

  const appendTrace = acceptable(async (call) => {
    const type = mediaType(call);
    const pieces: Buffer[] = [];
    if (type === "application/json" || type === "multipart/form-data" || type === "application/x-www-form-urlencoded") {
      // The parser eats such a body before the trace's code could see it.
      const parameters = await readParameters(call, limits(), tooLarge);
      if (parameters.refused !== undefined) return parameters.refused;
    } else {
      const limitBytes = switches.patchLimitBytes;
      const end = await call.body({ ...limits(), limitBytes }, (chunk) => void pieces.push(chunk));
      if (end === "too_large") return { ...crash, lingerBytes: LINGER_BYTES };
      if (end !== "complete") return hangUp;
    }
    const job = authorized(call);
    if (isReply(job)) return job;
    const bytes = Buffer.concat(pieces);
    const start = /^(\d+)-/.exec(call.header("content-range") ?? "")?.[1];
    job.append(bytes, start === undefined ? undefined : Number(start));
    // An open page gets the patch as JSON; by then it is stored.
    if (switches.watched && !isUtf8(bytes)) return crash;
    return json(202, { message: "202 Trace was patched" }, { "job-status": job.status, range: "0-100" });
  });

  const updateJob = acceptable(async (call) => {
    const job = jobs.find(call.id);
    const update = await readUpdate(call, job, limits());
    if (update === "too_large") return tooLarge;
    if (update === "malformed") return empty(400);
    if (update === "gone") return hangUp;
    const reply = applyUpdate(job, update.fields, update.trace);
    if (job !== undefined) noteUpdate(job, update, reply.status);
    return reply;
  });

  const applyUpdate = (
    job: JobRecord | undefined,
    fields: Wire,
    trace: { readonly hasNul: boolean; commit(): void } | undefined,
  ): Reply => {
    if (fields.token === undefined) return empty(400);
    if (job === undefined) return crash;
    if (fields.token !== job.token) return empty(403);
    const next = fields.state;
    if (next !== "running" && next !== "success" && next !== "failed") return crash;
    // The database takes no NUL; by then the state is set and the live text is gone.
    if (trace?.hasNul === true) job.dropLive();
    else trace?.commit();
    if (!isOver(job.status)) job.setStatus(next);
    return trace?.hasNul === true ? crash : empty(200);
  };

  const upload = acceptable(async (call) => {
    const received = await receiveUpload(call, shelf, limits());
    if (received === "too_large") return tooLarge;
    if (received === "gone") return hangUp;
    const job = authorized(call);
    const file = received === "no_multipart" || received === "malformed" ? undefined : received.file;
    const expireIn = call.query.get("expire_in") ?? undefined;
    const expiresInSeconds = alloyExpirySeconds(expireIn);
    const refusal = isReply(job)
      ? job
      : received === "malformed" || file === undefined
        ? empty(400)
        : !declaresArtifacts(job.spec)
          ? empty(404)
          : expiresInSeconds === undefined
            ? crash
            : undefined;
    if (refusal !== undefined || file === undefined || isReply(job)) {
      if (typeof received === "object") await received.discard();
      return refusal ?? empty(400);
    }
    const first = job.artifacts[0];
    // A second upload replaces the file and keeps the first one's expiry.
    job.addArtifact(
      file.content.keep({
        filename: file.filename,
        type: "archive",
        format: undefined,
        expireIn: first === undefined ? expireIn : first.expireIn,
        expiresInSeconds: first === undefined ? expiresInSeconds : first.expiresInSeconds,
      }),
    );
    return empty(201);
  });

  const download = acceptable(async (call) => {
    const job = authorized(call);
    if (isReply(job)) return job;
    if (!declaresArtifacts(job.spec)) return empty(404);
    const [artifact] = job.artifacts;
    const stream = await artifact?.open();
    if (artifact === undefined || stream === undefined) return crash;
    return {
      status: 200,
      headers: {
        "content-type": "application/octet-stream; charset=utf-8",
        "content-disposition": `attachment; filename=${headerText(artifact.filename)}`,
        "content-length": String(artifact.size),
      },
      body: stream,
    };
  });

  const authorize = withParameters((values) => {
    if (values.token === undefined || values.token === null) return crash;
    return empty(runners.find(values.token) === undefined ? 403 : 200);
  });

  return {
    register,
    verify,
    unregister,
    job_request: requestJob,
    trace: appendTrace,
    update: updateJob,
    upload,
    authorize,
    download,
    other: async () => empty(404),
  };
}

function declaresArtifacts(spec: JobRecord["spec"]): boolean {
  const [first] = listOf(spec.artifacts);
  return first !== undefined && Object.keys(first).length > 0;
}

function isReply(value: JobRecord | Reply): value is Reply {
  return !("patches" in value);
}
