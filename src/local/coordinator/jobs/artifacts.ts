import { mkdtemp, open, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { removeTree } from "../../../files/remove-tree.ts";
import { nowMs } from "../channel.ts";

/** What a job uploaded. */
export interface LocalArtifact {
  readonly filename: string;
  /** `artifact_type`; `archive` where none was given. */
  readonly type: string;
  readonly format: string | undefined;
  /** As it was sent. */
  readonly expireIn: string | undefined;
  /** What AlloyCI reads out of it; `undefined` on GitLab. */
  readonly expiresInSeconds: number | undefined;
  readonly size: number;
  /** Milliseconds since 1970. */
  readonly at: number;
  /** Where it is, until the coordinator is closed. */
  readonly path: string;
  read(): Promise<Buffer>;
  /** Its bytes, or `undefined` once they are gone. */
  open(): Promise<Readable | undefined>;
  /** Take the file away, as if it had expired. */
  remove(): Promise<void>;
}

/** A file that is being received. */
export interface IncomingFile {
  write(bytes: Buffer): Promise<void>;
  /** @throws what the disk said */
  close(): Promise<void>;
  discard(): Promise<void>;
  keep(facts: Pick<LocalArtifact, "filename" | "type" | "format" | "expireIn" | "expiresInSeconds">): LocalArtifact;
}

/** Uploaded files on disk, in a directory of its own that is made with the first of them. */
export interface ArtifactShelf {
  create(): Promise<IncomingFile>;
  /** Removes all. */
  close(): Promise<void>;
}

/** @param parent where that directory is made */
export function createArtifactShelf(parent: string = tmpdir()): ArtifactShelf {
  let folder: Promise<string> | undefined;
  let count = 0;
  return {
    async create() {
      folder ??= mkdtemp(join(parent, "alloy-artifacts-"));
      const path = join(await folder, String(++count));
      const file = await open(path, "wx", 0o600);
      let size = 0;
      return {
        async write(bytes) {
          for (let done = 0; done < bytes.length; ) done += (await file.write(bytes, done)).bytesWritten;
          size += bytes.length;
        },
        close: () => file.close(),
        async discard() {
          await file.close().catch(() => undefined);
          await rm(path, { force: true });
        },
        keep: (facts) => ({
          ...facts,
          size,
          path,
          at: nowMs(),
          read: () => readFile(path),
          open: async () => {
            const opened = await open(path).catch(() => undefined);
            return opened?.createReadStream({ highWaterMark: 262_144 });
          },
          remove: () => rm(path, { force: true }),
        }),
      };
    },
    async close() {
      if (folder !== undefined) await removeTree(await folder);
    },
  };
}

const UNIT_SECONDS: Readonly<Record<string, number>> = {
  s: 1,
  sec: 1,
  secs: 1,
  second: 1,
  seconds: 1,
  m: 60,
  min: 60,
  mins: 60,
  minute: 60,
  minutes: 60,
  h: 3600,
  hr: 3600,
  hrs: 3600,
  hour: 3600,
  hours: 3600,
  d: 86_400,
  dy: 86_400,
  day: 86_400,
  days: 86_400,
  w: 604_800,
  wk: 604_800,
  wks: 604_800,
  week: 604_800,
  weeks: 604_800,
  mo: 2_592_000,
  mos: 2_592_000,
  month: 2_592_000,
  months: 2_592_000,
  y: 31_557_600,
  yr: 31_557_600,
  yrs: 31_557_600,
  year: 31_557_600,
  years: 31_557_600,
};

/**
 * Life of an artifact as AlloyCI reads it: integers with unit words; 7 days where nothing is said. A number without a
 * unit and words it does not know count nothing (`never` is over at once); `undefined` for what crashes it.
 */
export function alloyExpirySeconds(text: string | undefined): number | undefined {
  if (text === undefined || text.trim() === "") return 604_800;
  if (/\d[.,]\d/.test(text)) return undefined;
  let seconds = 0;
  for (const [, count, unit] of text.matchAll(/(\d+)\s*([a-z]+)/gi))
    seconds += Number(count) * (UNIT_SECONDS[(unit ?? "").toLowerCase()] ?? 0);
  return seconds;
}
