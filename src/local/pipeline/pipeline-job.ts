/** What became of a job. `skipped`: what it waits for did not happen. `manual`: it waits for somebody to start it. */
type PipelineState = "success" | "failed" | "canceled" | "skipped" | "manual" | "not started here";

export interface PipelineJob {
  readonly name: string;
  readonly stage: string;
  readonly state: PipelineState;
  readonly allowFailure: boolean;
  readonly durationMs: number | undefined;
  readonly exitCode: number | undefined;
  readonly failureReason: string | undefined;
  /** Percent, where the job says how its output tells them and it did. */
  readonly coverage?: number | undefined;
}
