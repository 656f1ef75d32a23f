import type { JobLine } from "../../control/protocol.ts";
import { elapsed, outcomeOf } from "../../control/words.ts";
import type { Sample } from "../shown.ts";
import { shortTime } from "./stages.tsx";

const WIDTH = 300;
const HEIGHT = 60;

interface ChartProps {
  readonly title: string;
  readonly values: readonly number[];
  /** What the top of the chart stands for, if that is more than the largest value. */
  readonly top: number;
  readonly show: (value: number) => string;
}

function Chart({ title, values: given, top, show }: ChartProps) {
  // One figure is a line, too.
  const values = given.length === 1 ? [...given, ...given] : given;
  const most = Math.max(top, ...values, 1e-9);
  const last = values.at(-1);
  const step = WIDTH / Math.max(1, values.length - 1);
  const points = values.map(
    (value, index) => `${(index * step).toFixed(1)},${(HEIGHT - (value / most) * HEIGHT).toFixed(1)}`,
  );
  const said = last === undefined ? "no figures yet" : `now ${show(last)}, at most ${show(Math.max(...values))}`;
  return (
    <figure class="chart">
      <figcaption>
        {title} <b>{last === undefined ? "–" : show(last)}</b>
      </figcaption>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label={`${title}: ${said}`}>
        {points.length > 1 && <polygon class="area" points={`0,${HEIGHT} ${points.join(" ")} ${WIDTH},${HEIGHT}`} />}
        {points.length > 1 && <polyline class="curve" points={points.join(" ")} />}
      </svg>
    </figure>
  );
}

export function Charts({ samples }: { readonly samples: readonly Sample[] }) {
  const disk = samples.flatMap(({ freeBytes }) => (freeBytes === null ? [] : [freeBytes]));
  const concurrent = samples.at(-1)?.concurrent ?? 1;
  return (
    <div class="charts">
      <Chart
        title="Jobs at once"
        values={samples.map(({ jobs }) => jobs)}
        top={concurrent}
        show={(value) => `${value} of ${concurrent}`}
      />
      <Chart title="Waited at the coordinator" values={samples.map(({ waited }) => waited)} top={1} show={shortTime} />
      <Chart
        title="Results not delivered"
        values={samples.map(({ undelivered }) => undelivered)}
        top={1}
        show={(value) => String(value)}
      />
      <Chart title="Free disk" values={disk} top={0} show={(value) => `${(value / 1e9).toFixed(1)} GB`} />
    </div>
  );
}

/** The last jobs, oldest first: how long each took, and how it ended. */
/** So wide is a chart of few jobs: their bars do not become blocks. */
const FEWEST_BARS = 40;

export function OutcomeChart({ finished }: { readonly finished: readonly JobLine[] }) {
  const jobs = finished.slice(0, 100).reverse();
  const most = Math.max(1, ...jobs.map(({ elapsedSeconds }) => elapsedSeconds));
  const failed = jobs.filter(({ outcome }) => outcome?.result === "failed").length;
  return (
    <svg
      class="outcomes"
      viewBox={`0 0 ${Math.max(FEWEST_BARS, jobs.length) * 6} ${HEIGHT}`}
      preserveAspectRatio="none"
      role="img"
      aria-label={`The last ${jobs.length} jobs, ${failed} of them failed; the longest took ${elapsed(most)}`}
    >
      {jobs.map((job, index) => {
        const height = Math.max(3, (job.elapsedSeconds / most) * HEIGHT);
        return (
          <rect
            key={`${job.runnerId}/${job.id}`}
            class={job.outcome?.result ?? "unknown"}
            x={index * 6}
            y={HEIGHT - height}
            width={5}
            height={height}
          >
            <title>{`${job.title}: ${outcomeOf(job)}, ${elapsed(job.elapsedSeconds)}`}</title>
          </rect>
        );
      })}
    </svg>
  );
}
