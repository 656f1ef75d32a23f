/** What became of a job. `skipped`: what it waits for did not happen. `manual`: it waits for somebody to start it. */
type PipelineState = "success" | "failed" | "canceled" | "skipped" | "manual";

export interface PipelineJob {
  readonly name: string;
  readonly stage: string;
  readonly state: PipelineState;
  readonly allowFailure: boolean;
  readonly durationMs: number | undefined;
  readonly exitCode: number | undefined;
  readonly failureReason: string | undefined;
}
