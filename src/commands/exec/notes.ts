import type { CiFile } from "../../local/pipeline/ci-file.ts";
import { needsOf } from "../../local/pipeline/needs.ts";
import { printable } from "../../local/report/text-width.ts";
import type { CommandContext } from "../context.ts";
import type { ExecOptions } from "./options.ts";

export interface NotesOptions {
  readonly options: ExecOptions;
  readonly file: CiFile;
  /** The commit that runs. */
  readonly commit: { readonly message: string; readonly ref: string };
  readonly executor: { readonly image: boolean; readonly services: boolean };
  /** Names of the jobs that run; `undefined`: all that a push would run. */
  readonly only: readonly string[] | undefined;
}

/** What is different from a pipeline at AlloyCI, each said once. */
export function notesOn({ options, file, commit, executor, only }: NotesOptions): string[] {
  const notes: string[] = [];
  if (only === undefined && /\[(?:skip ci|ci skip)\]/.test(commit.message))
    notes.push("The last commit asks for no pipeline ([skip ci]): AlloyCI makes none for it");
  const jobs = file.jobs.filter((job) => only?.includes(job.name) ?? true);
  const tags = [...new Set(jobs.flatMap((job) => job.tags ?? []))];
  if (tags.length > 0) notes.push(`Tags choose no runner here: ${tags.join(", ")}`);
  const images = jobs.filter((job) => job.image !== undefined && !executor.image);
  if (images.length > 0) notes.push(`This executor uses no images: ${namesOf(images)} run on this machine itself`);
  const services = jobs.filter((job) => job.services.length > 0 && !executor.services);
  if (services.length > 0) notes.push(`This executor starts no services: ${namesOf(services)} go without`);
  for (const job of jobs) {
    if (only === undefined) break;
    const missing = needsOf(job, file, commit.ref).filter((needed) => !only.includes(needed.name));
    if (missing.length > 0) {
      const hint = options.needs ? "" : "; --with-needs runs them first";
      notes.push(
        `"${job.name}" gets artifacts of ${namesOf(missing)} in a pipeline, and runs without them here${hint}`,
      );
    }
  }
  return notes;
}

function namesOf(jobs: readonly { readonly name: string }[]): string {
  return jobs.map((job) => job.name).join(", ");
}

export function sayNotes(notes: readonly string[], context: Pick<CommandContext, "say">): void {
  for (const note of notes) context.say(`note: ${note.split("\n").map(printable).join("\n  ")}`);
}
