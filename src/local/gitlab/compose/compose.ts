import type { Findings } from "../read/findings.ts";
import { isTooLarge } from "../read/measure.ts";
import type { Table } from "../read/node.ts";
import { resolveExtends } from "./extends.ts";
import type { IncludeOptions } from "./find-included.ts";
import { composeFile, type MainFile } from "./include.ts";
import { resolveReferences } from "./reference.ts";

/**
 * A file with everything put in: inputs, includes, `extends`, `!reference`.
 * @throws {CiConfigError} GitLab would refuse it
 */
export async function compose(file: MainFile, options: IncludeOptions): Promise<Table> {
  const { findings } = options;
  const composed = await composeFile(file, options);
  findings.check();
  if (composed === undefined) throw new Error("A file without findings is composed");
  const extended = resolveExtends(composed, findings);
  findings.check();
  refuseLarge(extended, findings);
  const resolved = resolveReferences(extended, findings);
  findings.check();
  refuseLarge(resolved, findings);
  return resolved;
}

function refuseLarge(table: Table, findings: Findings): void {
  if (isTooLarge(table))
    findings.error(table.place, "with all that it takes from elsewhere the file is too large to work on");
  findings.check();
}
