import { ScriptFailure } from "../../../src/errors.ts";
import { MOST_ENTRIES } from "../../../src/workspace.ts";
import { MOST_NAME_BYTES } from "./unpack-rules.ts";

/** What is known of one thing in a checkout. */
export interface FoundFile {
  readonly kind: "file" | "directory" | "symlink";
  readonly size: number;
  readonly mode: number;
  readonly mtimeMs: number;
}

/** What patterns mean, by paths relative to the checkout. */
export interface Found {
  readonly files: ReadonlyMap<string, FoundFile>;
  /** Sockets, pipes and devices, which no archive takes. */
  readonly special: readonly string[];
}

export interface Gathering extends Found {
  /** `file`: `null` for a special one. @throws {ScriptFailure} there are more than an archive can hold */
  add(path: string, file: FoundFile | null): void;
}

/** Each is a line in the trace at most; nobody reads more of them. */
const MOST_SPECIAL = 1000;

/** Counts the names that are kept of all answers together: more than an archive may hold is more than memory should hold. */
export interface NameCount {
  count(name: string): void;
}

/** @throws {ScriptFailure} by `count`, for one name too many */
export function createNameCount(): NameCount {
  let names = 0;
  let bytes = 0;
  return {
    count(name) {
      names++;
      bytes += name.length;
      if (names > MOST_ENTRIES) {
        throw new ScriptFailure(`the paths of artifacts or of a cache match more than ${MOST_ENTRIES} files`);
      }
      if (bytes > MOST_NAME_BYTES) {
        throw new ScriptFailure(`the names of the files that match have more than ${MOST_NAME_BYTES} bytes together`);
      }
    },
  };
}

/** Makes a copy: a slice would keep the whole answer that it was cut from in memory. */
function ownText(name: string): string {
  return Buffer.from(name, "latin1").toString("latin1");
}

/** @param names shared by all that is kept at the same time */
export function createGathering(names: NameCount): Gathering {
  const files = new Map<string, FoundFile>();
  const special = new Set<string>();
  return {
    files,
    get special() {
      return [...special];
    },
    add(path, file) {
      if (path === "" || files.has(path)) return;
      if (file !== null) {
        names.count(path);
        files.set(ownText(path), file);
      } else if (special.size < MOST_SPECIAL) special.add(path);
    },
  };
}
