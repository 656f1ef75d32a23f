import { randomBytes } from "node:crypto";
import type { Readable } from "node:stream";
import { z } from "zod";
import { SystemFailure } from "../../../src/errors.ts";
import type { ScriptKeeping } from "../../../src/executor/environment.ts";
import type { Note } from "../../../src/executor/prepare.ts";
import type { Lasting } from "../commands.ts";
import { type Introduced, readIntroduction } from "./introduction.ts";

const count = z.number().int().nonnegative();

/** Where a script was begun, as a later process of the runner reads it. Others may have put more into the note. */
const placeSchema = z.object({
  kind: z.literal("remote-script"),
  directory: z.string().startsWith("/"),
  nonce: z.string().regex(/^[0-9a-f]{16}$/),
  /** It has run: it must not be started, whatever is left of it. */
  started: z.boolean(),
  /** Its introduction, once that was read: where it stands in the output, and what it said. */
  introduced: z.boolean(),
  at: count,
  bytes: count,
  said: z.enum(["root", "missing", "unwritable", ""]),
  pid: count,
  group: count,
  session: count,
  startedAt: z.string(),
});
type Place = z.output<typeof placeSchema>;

/** A script that begins, or that another process has begun. */
export interface Begun {
  /** By which the script's root is known in its output, and its processes in their environment. */
  readonly nonce: string;
  /** Another process has begun it. */
  readonly again: boolean;
  /** It may have run already. */
  readonly started: boolean;
  readonly lasting: Lasting | undefined;
  /** What its root said of itself, and what of its output is the script's own. */
  introduction(stdout: Readable): Introduced & { readonly rest: Readable };
}

/** @throws {SystemFailure} what was noted of it cannot be read */
export function begunBy(keeping: ScriptKeeping | undefined): Begun {
  if (keeping === undefined) {
    const nonce = newNonce();
    return {
      ...{ nonce, again: false, started: false, lasting: undefined },
      introduction: (stdout) => readIntroduction(stdout, nonce),
    };
  }
  const { resume } = keeping;
  let place = resume === undefined ? newPlace() : readPlace(resume.place);
  const { nonce } = place;
  const note = (more: Partial<Place>): void => {
    place = { ...place, ...more };
    keeping.begins(place);
  };
  /** The introduction is no part of what is counted outside of here. */
  const inFile = (raw: number): number => (place.introduced && raw > place.at ? raw + place.bytes : raw);
  const known = resume !== undefined && place.introduced && resume.from > place.at ? introducedAs(place) : null;
  return {
    nonce,
    again: resume !== undefined,
    started: place.started,
    lasting: {
      begins: (directory) => note({ directory }),
      started: () => note({ started: true }),
      settled: () => inFile(keeping.settled()),
      ...(resume === undefined
        ? {}
        : { resume: { directory: place.directory, started: place.started, from: inFile(resume.from) } }),
    },
    introduction(stdout) {
      if (known !== null) return { ...known, rest: stdout };
      return readIntroduction(stdout, nonce, ({ said, root }, { at, bytes }) => {
        // What ends with its connection has no place.
        if (place.directory === "") return;
        const { pid = 0, group = 0, session = 0, startedAt = "" } = root ?? {};
        note({ started: true, introduced: true, at, bytes, said: said ?? "", pid, group, session, startedAt });
      });
    },
  };
}

function newNonce(): string {
  return randomBytes(8).toString("hex");
}

function newPlace(): Place {
  return {
    kind: "remote-script",
    ...{ directory: "", nonce: newNonce(), started: false, introduced: false },
    ...{ at: 0, bytes: 0, said: "", pid: 0, group: 0, session: 0, startedAt: "" },
  };
}

function readPlace(note: Note): Place {
  const { data } = placeSchema.safeParse(note);
  if (data === undefined) throw new SystemFailure("How the script ended is not known: its place cannot be read");
  return data;
}

function introducedAs({ said, pid, group, session, startedAt }: Place): Introduced {
  return { said: said === "" ? null : said, root: pid > 0 ? { pid, group, session, startedAt } : null };
}
