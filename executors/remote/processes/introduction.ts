import { Readable } from "node:stream";
import type { ScriptRoot } from "./end-tree.ts";

/** What a far host's profile may print before the script's own first line. */
const MOST_NOISE_BYTES = 64 * 1024;

/** What a script's root has said of itself; `said` is `null` until then, and if it never does. */
export interface Introduced {
  readonly said: "root" | "missing" | "unwritable" | null;
  readonly root: ScriptRoot | null;
}

interface Introduction extends Introduced {
  /** All other output. */
  readonly rest: Readable;
}

/** Where in the output it stands. */
export interface IntroductionPlace {
  readonly at: number;
  readonly bytes: number;
}

function parseLine(line: string): Introduced | null {
  const [said, ...fields] = line.split(" ");
  if (said === "missing" || said === "unwritable") return { said, root: null };
  const [pid, group, session] = fields.slice(0, 3).map((field) => (/^\d{1,10}$/.test(field) ? Number(field) : 0));
  if (said !== "root" || !(Number(pid) > 0)) return null;
  const startedAt = (fields[3] ?? "").slice(0, 100);
  return { said, root: { pid: Number(pid), group: group ?? 0, session: session ?? 0, startedAt } };
}

/**
 * Takes the line out of a script's output by which its root introduces itself. It comes before any byte of the script's.
 * @param onFound told before anything that follows it is handed on
 */
export function readIntroduction(
  stdout: Readable,
  nonce: string,
  onFound: (found: Introduced, place: IntroductionPlace) => void = () => {},
): Introduction {
  const mark = Buffer.from(`alloy-runner ${nonce} `);
  let found: Introduced = { said: null, root: null };
  async function* rest(): AsyncGenerator<Uint8Array> {
    let head = Buffer.alloc(0);
    let looking = true;
    for await (const chunk of stdout) {
      if (!looking) {
        yield chunk;
        continue;
      }
      head = Buffer.concat([head, chunk]);
      const at = head.indexOf(mark);
      const end = at < 0 ? -1 : head.indexOf("\n", at);
      if (end >= 0) {
        found = parseLine(head.toString("latin1", at + mark.length, end)) ?? found;
        looking = false;
        onFound(found, { at, bytes: end + 1 - at });
        if (at > 0) yield head.subarray(0, at);
        if (end + 1 < head.length) yield head.subarray(end + 1);
        head = Buffer.alloc(0);
      } else if (head.length > MOST_NOISE_BYTES) {
        looking = false;
        yield head;
      }
    }
    if (looking && head.length > 0) yield head;
  }
  return {
    get said() {
      return found.said;
    },
    get root() {
      return found.root;
    },
    rest: Readable.from(rest(), { objectMode: false }),
  };
}
