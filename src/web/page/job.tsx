import { useState } from "preact/hooks";
import type { JobLine } from "../../control/protocol.ts";
import { doingOf, durableWords, elapsed, memoryOf, outcomeOf, processorOf, sizeOf } from "../../control/words.ts";
import { cancelPath } from "./api.ts";
import { OrderButton, type Orders } from "./orders.tsx";
import { secondsOf } from "./overview.tsx";
import { StageBar, StageList, shortTime } from "./stages.tsx";
import { Trace } from "./trace/trace.tsx";

interface JobPageProps {
  readonly job: JobLine | undefined;
  readonly now: number;
  readonly orders: Orders | null;
}

/** One job, with its trace. */
export function JobPage({ job, now, orders }: JobPageProps) {
  if (job === undefined) {
    return (
      <section>
        <Back />
        <p class="notice">This job is neither in progress nor among the last that ended.</p>
      </section>
    );
  }
  return <KnownJob job={job} now={now} orders={orders} />;
}

function KnownJob({ job, now, orders }: JobPageProps & { readonly job: JobLine }) {
  // A trace that is being read stays, also when the coordinator has all of it.
  const [late] = useState(job.state === "ended");
  const over = job.outcome !== undefined;
  return (
    <section class="one" aria-labelledby="title">
      <Back />
      <div class="row">
        <h2 id="title">{job.title}</h2>
        {orders !== null && !over && (
          <OrderButton orders={orders} path={cancelPath(job)} label={`Cancel ${job.title}`} ask="Cancel it?">
            Cancel
          </OrderButton>
        )}
      </div>
      <p class="facts">
        <span class={over ? `outcome ${job.outcome?.result}` : `doing ${job.state}`}>
          {job.state === "ended" ? outcomeOf(job) : doingOf(job)}
        </span>
        <span>job {job.id}</span>
        <span>{job.runner}</span>
        {durableWords(job) !== "" && <span title="a restart of the runner does not end it">{durableWords(job)}</span>}
        <span>{elapsed(secondsOf(job, now))}</span>
        {usesOf(job).map((use) => (
          <span key={use}>{use}</span>
        ))}
        {Boolean(job.queuedSeconds) && <span>waited {shortTime(job.queuedSeconds ?? 0)} before</span>}
      </p>
      <StageBar job={job} now={now} />
      <StageList job={job} now={now} />
      {late ? <p class="notice">This job has ended: its coordinator has the trace.</p> : <Trace job={job} />}
    </section>
  );
}

/** What it uses now, or has used. */
function usesOf(job: JobLine): string[] {
  const { cpuPercent, cpuSeconds, memoryBytes, peakMemoryBytes } = job.usage ?? {};
  return [
    ...(cpuPercent === undefined ? [] : [`${processorOf(job)} of a processor`]),
    ...(job.outcome === undefined || cpuSeconds === undefined ? [] : [`${shortTime(cpuSeconds)} of processor time`]),
    ...(memoryBytes === undefined ? [] : [`${memoryOf(job)} of memory`]),
    ...(peakMemoryBytes === undefined ? [] : [`${sizeOf(peakMemoryBytes)} at most`]),
  ];
}

function Back() {
  return (
    <a href="#/" class="back">
      ← All jobs
    </a>
  );
}
