import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import { SystemFailure } from "../errors.ts";
import { type Caller, type CoordinatorDeps, type CoordinatorTarget, failure, type Reply } from "./calls.ts";
import { fetchElsewhere } from "./connection/redirected.ts";
import { type ArtifactFile, answerKind, type Coordinator } from "./contract.ts";
import type { Answer } from "./exchange.ts";
import { first } from "./retry-after.ts";

export const MOST_REDIRECTS = 5;

/** The calls that carry files. */
export function openTransfers(
  caller: Caller,
  target: CoordinatorTarget,
  deps: CoordinatorDeps,
): Pick<Coordinator, "uploadArtifacts" | "downloadArtifacts"> {
  const { api, bounds } = caller;
  return {
    async uploadArtifacts(job, file, signal) {
      const query = new URLSearchParams();
      if (file.expireIn !== "") query.set("expire_in", file.expireIn);
      if (job.dialect === "gitlab") {
        // What is left out here is what GitLab takes for granted.
        if (file.format !== "" && file.format !== "zip") query.set("artifact_format", file.format);
        else if (file.type !== "" && file.type !== "archive") query.set("artifact_format", "zip");
        if (file.type !== "" && file.type !== "archive") query.set("artifact_type", file.type);
      }
      const { contentType, length, open } = formOf(file);
      const reply = await caller.call(
        {
          method: "POST",
          path: `jobs/${encodeURIComponent(job.id)}/artifacts${query.size > 0 ? `?${query}` : ""}`,
          endpoint: "jobs/:id/artifacts",
          headers: ["job-token", job.token],
          contentType,
          body: { length, open },
          repeatable: true,
          silenceMs: bounds.uploadSilenceMs,
          ...(bounds.uploadMs === undefined ? {} : { totalMs: bounds.uploadMs }),
        },
        signal,
      );
      if (reply.kind === "answer" && answerKind(reply.answer.status) === "fine") return;
      throw failure(`upload artifacts of job ${job.id}`, reply, api, [job.token]);
    },

    async downloadArtifacts(of, sink, { direct }, signal) {
      let bytes = 0;
      let spilled: { readonly error: unknown } | undefined;
      const counted = async (piece: Uint8Array): Promise<void> => {
        bytes += piece.length;
        try {
          await sink(piece);
        } catch (error) {
          spilled = { error };
          throw error;
        }
      };
      const path = `jobs/${encodeURIComponent(of.id)}/artifacts`;
      const ask = async (query: string): Promise<Reply> =>
        await caller.call(
          {
            method: "GET",
            path: `${path}${query}`,
            endpoint: "jobs/:id/artifacts",
            headers: ["job-token", of.token],
            repeatable: false,
            sink: counted,
          },
          signal,
        );
      const what = `download artifacts of job ${of.id}`;
      let reply = await ask(direct && of.dialect === "gitlab" ? "?direct_download=true" : "");
      let from = `${api.origin}${api.path}/${path}`;
      for (let redirects = 0; redirects < MOST_REDIRECTS; redirects++) {
        const next = reply.kind === "answer" ? targetOf(reply.answer, from) : undefined;
        if (next === undefined) break;
        from = next.href;
        const sub = `${api.path}/`;
        // To the coordinator itself with the token, to anybody else without: an address that is signed needs none.
        reply =
          next.origin === api.origin && next.pathname.startsWith(sub)
            ? await caller.call(
                {
                  method: "GET",
                  path: `${next.pathname.slice(sub.length)}${next.search}`,
                  endpoint: "jobs/:id/artifacts",
                  headers: ["job-token", of.token],
                  repeatable: false,
                  sink: counted,
                },
                signal,
              )
            : await fetchElsewhere(next, { sink: counted, target, deps, bounds, what }, signal);
      }
      if (spilled !== undefined) throw spilled.error; // it may look like trouble of the call's own
      if (reply.kind === "answer" && reply.answer.status === 200 && reply.answer.cut === undefined) {
        const length = first(reply.answer.headers["content-length"]);
        return { bytes, expectedBytes: length !== undefined && /^\d+$/.test(length) ? Number(length) : undefined };
      }
      if (reply.kind === "answer" && reply.answer.cut !== undefined) {
        throw new SystemFailure(`Cannot ${what} at ${api.shown}: the answer was cut: ${reply.answer.cut}`, {
          retry: true,
        });
      }
      throw failure(what, reply, api, [of.token]);
    },
  };
}

function targetOf({ status, headers }: Answer, from: string): URL | undefined {
  if (![301, 302, 303, 307, 308].includes(status)) return undefined;
  try {
    return new URL(first(headers.location) ?? "", from);
  } catch {
    return undefined;
  }
}

/** A form with one part, which coordinators take only as a real file. */
function formOf(file: ArtifactFile): { contentType: string; length: number; open(): Readable } {
  const boundary = `----alloy-runner-${randomBytes(16).toString("hex")}`;
  const name = file.fileName.replace(/["\\\r\n]/g, "_");
  const head = Buffer.from(
    `--${boundary}\r\nContent-Disposition: form-data; name="file"; filename="${name}"\r\nContent-Type: application/octet-stream\r\n\r\n`,
  );
  const tail = Buffer.from(`\r\n--${boundary}--\r\n`);
  async function* parts(): AsyncGenerator<Uint8Array> {
    yield head;
    for await (const chunk of file.open()) yield chunk;
    yield tail;
  }
  return {
    contentType: `multipart/form-data; boundary=${boundary}`,
    length: head.length + file.size + tail.length,
    open: () => Readable.from(parts(), { objectMode: false }),
  };
}
