import type { VariableSpec } from "../../coordinator/jobs/job.ts";

/** A variable of the project's settings. */
export interface ProjectVariable extends VariableSpec {
  /** The environments whose jobs get it, `*` in it for anything; absent: all jobs. */
  readonly scope?: string;
}

/** The variables that a job of an environment gets, in their order: later ones win. */
export function forEnvironment(
  variables: readonly ProjectVariable[],
  environment: string | undefined,
): readonly VariableSpec[] {
  return variables.flatMap(({ scope, ...spec }) =>
    scope === undefined || (environment !== undefined && fits(scope, environment)) ? [spec] : [],
  );
}

function fits(scope: string, environment: string): boolean {
  const source = scope.replace(/[\\^$.*+?()[\]{}|]/g, (sign) => (sign === "*" ? ".*" : `\\${sign}`));
  return new RegExp(`^${source}$`, "s").test(environment);
}
