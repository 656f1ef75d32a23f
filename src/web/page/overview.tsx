import type { JobLine, RunnerLine } from "../../control/protocol.ts";
import { doingOf, durableWords, elapsed, memoryOf, outcomeOf, processorOf } from "../../control/words.ts";
import { cancelPath } from "./api.ts";
import { Charts, OutcomeChart } from "./charts.tsx";
import { OrderButton, type Orders } from "./orders.tsx";
import { StageBar } from "./stages.tsx";
import { type Known, keyOf } from "./store.ts";

interface OverviewProps {
  readonly known: Known;
  readonly now: number;
  readonly orders: Orders | null;
}

export function Overview({ known, now, orders }: OverviewProps) {
  const { runners, jobs, finished, samples } = known;
  return (
    <>
      <section aria-labelledby="entries">
        <h2 id="entries">Entries</h2>
        {runners.length === 0 && <p class="quiet">No runner is configured. “alloy-runner register” adds one.</p>}
        <ul class="cards">
          {runners.map((runner, index) => (
            <Entry key={`${runner.id} ${runner.name} ${index}`} runner={runner} orders={orders} />
          ))}
        </ul>
      </section>
      <section aria-labelledby="jobs">
        <h2 id="jobs">
          Jobs <span class="count">{jobs.length}</span>
        </h2>
        {jobs.length === 0 && <p class="quiet">No job is in progress. Why, each entry says above.</p>}
        <ul class="jobs">
          {jobs.map((job) => (
            <JobRow key={keyOf(job)} job={job} now={now} orders={orders} />
          ))}
        </ul>
      </section>
      <section aria-labelledby="charts">
        <h2 id="charts">The last hour</h2>
        <Charts samples={samples} />
      </section>
      <section aria-labelledby="history">
        <h2 id="history">
          History <span class="count">{finished.length}</span>
        </h2>
        {finished.length === 0 ? <p class="quiet">No job has ended yet.</p> : <History finished={finished} />}
      </section>
    </>
  );
}

function Entry({ runner, orders }: { readonly runner: RunnerLine; readonly orders: Orders | null }) {
  const { name, id, executor, url, jobs, limit, state, reason, figures = [] } = runner;
  const paused = state === "paused";
  return (
    <li class={`card state-${state.replaceAll(" ", "-")}`}>
      <div class="row">
        <h3 title={name}>{name}</h3>
        <span class="tag">{executor}</span>
      </div>
      <p class="quiet cut" title={url}>
        {url}
      </p>
      <p class="reason">{reason}</p>
      {[...new Set(figures.map(({ about }) => about))].map((about) => (
        <p key={about} class="quiet">
          {about.replace(/\.$/, "")}:{" "}
          {figures
            .flatMap((figure) => (figure.about === about ? [`${figure.value} ${figure.name}`.trim()] : []))
            .join(", ")}
        </p>
      ))}
      <div class="row">
        <span>
          <b>{jobs}</b> {limit === null ? "jobs" : `of ${limit} jobs`}
        </span>
        {orders !== null && state !== "unusable" && (
          <OrderButton
            orders={orders}
            path={`${paused ? "resume" : "pause"}?runner=${encodeURIComponent(id)}`}
            label={`${paused ? "Resume" : "Pause"} ${name}`}
          >
            {paused ? "Resume" : "Pause"}
          </OrderButton>
        )}
      </div>
    </li>
  );
}

/** Seconds since a job came, or until it ended. */
export function secondsOf(job: JobLine, now: number): number {
  const over = job.outcome !== undefined;
  return over ? job.elapsedSeconds : Math.max(0, Math.round((now - Date.parse(job.receivedAt)) / 1000));
}

function JobRow({ job, now, orders }: { readonly job: JobLine; readonly now: number; readonly orders: Orders | null }) {
  const durable = durableWords(job);
  return (
    <li class="job">
      <a href={linkTo(job)} class="title" title={job.title}>
        {job.title}
      </a>
      <span class="quiet cut" title={`${job.runner}, job ${job.id}`}>
        {job.runner} · {job.id}
        {durable !== "" && ` · ${durable}`}
      </span>
      <span class={`doing ${job.outcome?.result ?? job.state}`}>{doingOf(job)}</span>
      <span class="uses" title="processors in use, and memory">
        {[processorOf(job), memoryOf(job)].join(" ").trim()}
      </span>
      <span class="time">{elapsed(secondsOf(job, now))}</span>
      {orders === null || job.outcome !== undefined ? (
        <span />
      ) : (
        <OrderButton orders={orders} path={cancelPath(job)} label={`Cancel ${job.title}`} ask="Cancel it?">
          Cancel
        </OrderButton>
      )}
      <StageBar job={job} now={now} />
      <code class="last cut">{job.lastLine ?? ""}</code>
    </li>
  );
}

function History({ finished }: { readonly finished: readonly JobLine[] }) {
  return (
    <>
      <OutcomeChart finished={finished} />
      <table>
        <thead>
          <tr>
            <th scope="col">Outcome</th>
            <th scope="col">Job</th>
            <th scope="col" class="wide">
              Runner
            </th>
            <th scope="col" class="time">
              Took
            </th>
            <th scope="col" class="wide time">
              Ended
            </th>
          </tr>
        </thead>
        <tbody>
          {finished.map((job) => (
            <tr key={keyOf(job)}>
              <td>
                <span class={`outcome ${job.outcome?.result ?? "unknown"}`}>{outcomeOf(job)}</span>
              </td>
              <td class="name">
                <a href={linkTo(job)}>{job.title}</a> <span class="quiet">{job.id}</span>
              </td>
              <td class="wide">{job.runner}</td>
              <td class="time">{elapsed(job.elapsedSeconds)}</td>
              <td class="wide time">{new Date(job.since).toLocaleTimeString()}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </>
  );
}

function linkTo(job: JobLine): string {
  return `#/${encodeURIComponent(job.runnerId)}/${encodeURIComponent(job.id)}`;
}
