import { cases as archiveCases } from "./archive-cases.ts";
import { cases as fileCases } from "./file-cases.ts";
import { cases as hostCases } from "./host-cases.ts";
import { cases as jobCases } from "./job-cases.ts";
import type { Case } from "./support.ts";
import { cases as wireCases } from "./wire-cases.ts";

/** One case for each row of docs/limits.md. */
export const cases: Readonly<Record<string, Case>> = {
  ...wireCases,
  ...jobCases,
  ...archiveCases,
  ...hostCases,
  ...fileCases,
};
