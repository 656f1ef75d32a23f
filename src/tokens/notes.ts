import { randomBytes } from "node:crypto";
import { mkdir, open, readdir, readFile, rename, unlink } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { digest } from "../config/identity.ts";
import { syncDirectory, writeAt } from "../journal/records/synced-file.ts";

/**
 * Tokens that were got in exchange for others and are not in the configuration yet, each in a file of its own (0600), on the
 * disk before the configuration is touched: the coordinator has forgotten the old one, and a lost new one is a lost runner.
 */
export interface ExchangeNotes {
  isEmpty(): Promise<boolean>;
  /** What earlier processes have left. What cannot be read is passed to `onBroken` and stays. */
  all(onBroken: (path: string) => void): Promise<readonly KeptNote[]>;
  /**
   * Makes sure that a note can be kept, before there is one.
   * @throws the directory cannot be written, or its disk is full
   */
  prepare(): Promise<Pen>;
}

export interface ExchangeNote {
  readonly url: string;
  /** SHA-256 of the token of before, hex. */
  readonly oldDigest: string;
  readonly token: string;
  readonly obtainedAtMs: number;
  readonly expiresAtMs: number | null;
}

export interface KeptNote {
  readonly note: ExchangeNote;
  readonly path: string;
  /** The configuration has the token. */
  remove(): Promise<void>;
}

export interface Pen {
  keep(note: ExchangeNote): Promise<KeptNote>;
  /** There is nothing to note. */
  drop(): Promise<void>;
}

/** Where notes are, below the state directory. */
export const TOKEN_NOTES = "tokens";

/** More than any note has: the room is taken before the token is asked for. */
const NOTE_BYTES = 4096;

const noteSchema = z.object({
  url: z.string(),
  oldDigest: z.string(),
  token: z.string(),
  obtainedAtMs: z.number(),
  expiresAtMs: z.number().nullable(),
});

/** @param dir made when it is needed */
export function openNotes(dir: string): ExchangeNotes {
  const kept = (note: ExchangeNote, path: string): KeptNote => ({
    note,
    path,
    remove: async () => await unlink(path).catch(() => {}),
  });
  const names = async (): Promise<string[]> =>
    (await readdir(dir).catch(() => [])).filter((name) => name.endsWith(".json"));
  return {
    isEmpty: async () => (await names()).length === 0,
    async all(onBroken) {
      const notes = await Promise.all(
        (await names()).map(async (name) => {
          const path = join(dir, name);
          const note = await readNote(path);
          if (note === undefined) onBroken(path);
          return note === undefined ? [] : [kept(note, path)];
        }),
      );
      return notes.flat().sort((a, b) => a.note.obtainedAtMs - b.note.obtainedAtMs);
    },
    async prepare() {
      await mkdir(dir, { recursive: true, mode: 0o700 });
      const temporary = join(dir, `${randomBytes(8).toString("hex")}.tmp`);
      const file = await open(temporary, "wx", 0o600);
      const drop = async (): Promise<void> => {
        await file.close();
        await unlink(temporary).catch(() => {});
      };
      try {
        await writeAt(file, Buffer.alloc(NOTE_BYTES, " "), 0);
        await file.datasync();
      } catch (error) {
        await drop();
        throw error;
      }
      return {
        drop,
        async keep(note) {
          await writeAt(file, Buffer.from(JSON.stringify(note).padEnd(NOTE_BYTES)), 0);
          await file.datasync();
          await file.close();
          const path = join(dir, `${digest(`${note.url} ${note.oldDigest}`).slice(0, 32)}.json`);
          await rename(temporary, path);
          await syncDirectory(dir);
          return kept(note, path);
        },
      };
    },
  };
}

async function readNote(path: string): Promise<ExchangeNote | undefined> {
  try {
    return noteSchema.safeParse(JSON.parse(await readFile(path, "utf8"))).data;
  } catch {
    return undefined;
  }
}
