/** When a job ran, and what it waited for. */
export interface Timed {
  readonly name: string;
  readonly before: readonly string[];
  readonly startedAt: number | undefined;
  readonly endedAt: number | undefined;
}

/** The jobs that the pipeline's length hung on, as a line; `undefined`: there are no two of them. */
export function criticalPath(jobs: readonly Timed[]): string | undefined {
  const byName = new Map(jobs.map((job) => [job.name, job]));
  const last = (of: readonly Timed[]): Timed | undefined =>
    of.reduce<Timed | undefined>(
      (latest, job) => (job.endedAt !== undefined && job.endedAt > (latest?.endedAt ?? -1) ? job : latest),
      undefined,
    );
  const path: Timed[] = [];
  let job = last(jobs);
  while (job !== undefined && !path.includes(job)) {
    path.unshift(job);
    job = last(job.before.flatMap((name) => byName.get(name) ?? []));
  }
  const [first] = path;
  const end = path.at(-1)?.endedAt;
  if (path.length < 2 || first?.startedAt === undefined || end === undefined) return undefined;
  const seconds = ((end - first.startedAt) / 1000).toFixed(1);
  return `longest way: ${path.map(({ name }) => name).join(" → ")} (${seconds} s)`;
}
