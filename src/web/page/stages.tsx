import type { JobLine } from "../../control/protocol.ts";
import { elapsed } from "../../control/words.ts";

export interface StagePart {
  readonly name: string;
  readonly seconds: number;
  readonly present: boolean;
}

/** The stages of a job with their times, the present one at the end. */
export function stagesOf(job: JobLine, now: number): StagePart[] {
  const past = job.stages.map((stage) => ({ ...stage, present: false }));
  const name = job.state === "preparing" ? "prepare_executor" : job.state === "running" ? job.stage : undefined;
  if (name === undefined) return past;
  return [...past, { name, seconds: Math.max(0, (now - Date.parse(job.since)) / 1000), present: true }];
}

/** How a job's time was spent, as a bar; for those who cannot see it, as a sentence. */
export function StageBar({ job, now }: { readonly job: JobLine; readonly now: number }) {
  const parts = stagesOf(job, now);
  const said = parts.map(({ name, seconds }) => `${name} ${shortTime(seconds)}`).join(", ");
  return (
    <div class="bar" role="img" aria-label={said === "" ? "no stage yet" : said}>
      {parts.map(({ name, seconds, present }) => (
        <span
          key={name}
          class={present ? `part present ${kindOf(name)}` : `part ${kindOf(name)}`}
          // Growths that are less than 1 together would leave room.
          style={{ flexGrow: 1 + seconds * 1000 }}
          title={`${name} ${shortTime(seconds)}`}
        />
      ))}
    </div>
  );
}

export function StageList({ job, now }: { readonly job: JobLine; readonly now: number }) {
  return (
    <ul class="stages">
      {stagesOf(job, now).map(({ name, seconds, present }) => (
        <li key={name} class={present ? "present" : ""}>
          <span class={`dot ${kindOf(name)}`} />
          {name} <b>{shortTime(seconds)}</b>
        </li>
      ))}
    </ul>
  );
}

/** Which colour a stage has. */
function kindOf(name: string): string {
  if (name === "prepare_executor" || name === "prepare_script") return "prepare";
  if (name === "get_sources") return "sources";
  if (/cache/.test(name)) return "cache";
  if (/artifacts/.test(name)) return "artifacts";
  return name === "cleanup" ? "cleanup" : "script";
}

export function shortTime(seconds: number): string {
  return seconds < 10 ? `${seconds.toFixed(1)}s` : elapsed(Math.round(seconds));
}
