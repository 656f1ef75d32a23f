import { SystemFailure } from "../../../../src/errors.ts";

/** AWS has said no. */
export class AwsRefusal extends SystemFailure {
  /** In AWS's words: `InvalidInstanceID.NotFound`. */
  readonly code: string;

  constructor(action: string, code: string, message: string) {
    super(`AWS refuses ${action}: ${code}${message === "" ? "" : `: ${message}`}`, { retry: true });
    this.code = code;
  }
}
