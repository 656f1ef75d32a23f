import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import { ScriptFailure, SystemFailure } from "../../../src/errors.ts";
import { tidyAfter } from "../../../src/files/tidy.ts";
import { deadline, never } from "../../../src/time.ts";
import { fileNameText, type UnpackLimits, type UnpackReport } from "../../../src/workspace.ts";
import { pathOf } from "../../common/files/paths.ts";
import type { RemoteCommands } from "../commands.ts";
import type { RemotePlace } from "../place.ts";
import { lastLine, runToEnd } from "../run-to-end.ts";
import { contentsOf, createContents } from "./contents.ts";
import { moveIn } from "./move-in.ts";
import { encodingFor } from "./unpack-encodings.ts";
import { gathered, nothingStaged, type Staged, vetted } from "./vet.ts";

/**
 * `$1` checkout, `$2` the job's own directory, `$3` name. Makes the staging directory where moving is cheap, and where no link
 * leads elsewhere. Prints whether it is near the checkout or in it, whether case counts, and the free KiB.
 */
const PREPARE = `
LC_ALL=C; export LC_ALL
mkdir -p "$1" || exit
if [ -L "$1" ] || [ ! -d "$1" ]; then echo gone; exit; fi
disk() { df -Pk "$1" 2>/dev/null | { read -r line; read -r disk size used free part mount; echo "$disk $mount"; }; }
(umask 077; mkdir -p "$2" 2>/dev/null)
if [ -d "$2" ] && [ ! -L "$2" ] && [ -w "$2" ] && [ "$(disk "$1")" = "$(disk "$2")" ]; then
  place=near staging=$2/$3
else
  place=inside staging=$1/.alloy-$3
fi
(umask 077; mkdir "$staging") || exit
: >"$staging/.a" || exit
if [ -e "$staging/.A" ]; then letters=caseless; else letters=exact; fi
rm -f "$staging/.a"
printf '%s %s ' "$place" "$letters"
df -Pk "$staging" 2>/dev/null | { read -r line; read -r disk size used free rest; echo "$free"; }
`;

const FREE = `LC_ALL=C df -Pk "$1" | { read -r line; read -r disk size used free rest; echo "$free"; }`;

const REMOVE = `
[ -d "$1" ] && [ ! -L "$1" ] || exit 0
rm -rf "$1" 2>/dev/null && exit
find "$1" -type d ! -perm -700 -exec chmod u+rwx {} \\; 2>/dev/null
rm -rf "$1"
`;

/** For removing what was staged, also after a stop. */
const TIDY_MS = 60_000;
export const MOST_ANSWER_BYTES = 64 * 1024;

export interface UnpackPlace extends RemotePlace {
  /** The report is to say what stands for all that was unpacked. */
  readonly tellsContents?: boolean;
}

/** `WorkspaceFiles.unpack` over `commands`: vetted here, unpacked beside the checkout there, moved in when it is complete. */
export async function unpackRemote(
  commands: RemoteCommands,
  place: UnpackPlace,
  tar: Readable,
  limits: UnpackLimits,
  signal: AbortSignal,
): Promise<UnpackReport> {
  const { root, tmpDir } = place;
  const name = `unpack-${randomBytes(8).toString("hex")}`;
  const places = { near: `${pathOf(tmpDir)}/${name}`, inside: `${pathOf(root)}/.alloy-${name}` };
  const args = [pathOf(root), pathOf(tmpDir), name];
  let staging: string | null = null;
  try {
    const { code, stdout, stderr } = await runToEnd(
      commands,
      { script: PREPARE, args },
      MOST_ANSWER_BYTES,
      signal,
    ).catch((error: unknown) => {
      staging = places.near; // it may have been made
      throw error;
    });
    const [said, letters, free = ""] = stdout.toString("latin1").trim().split(" ");
    if (said === "gone") throw new ScriptFailure(`${root} is not a directory (any more)`);
    if (said !== "near" && said !== "inside") {
      throw new SystemFailure(`Cannot unpack into ${root}: ${lastLine(stderr) || `status ${code}`}`);
    }
    staging = places[said];
    const staged = await stage(
      commands,
      { place, staging, caseless: letters === "caseless", free },
      tar,
      limits,
      signal,
    );
    const placed = await moveIn(commands, { place, staging }, staged, signal);
    const { entries, bytes, warnings } = staged;
    const report = { entries, bytes, warnings: warnings.list };
    if (placed === null) return report;
    const contents = contentsOf(staged, placed);
    return { ...report, placed, ...(contents === null ? {} : { contents }) };
  } finally {
    tar.destroy();
    if (staging !== null) await remove(commands, staging);
  }
}

/** A directory of the runner's own, with all that is in it. */
export async function remove(commands: RemoteCommands, staging: string): Promise<void> {
  using limit = deadline(never, TIDY_MS, new Error("clean-up"));
  // What stays lies in the job's own directory, which goes with the job.
  await runToEnd(commands, { script: REMOVE, args: [staging] }, MOST_ANSWER_BYTES, limit.signal).catch(() => {});
}

interface Stage {
  readonly place: UnpackPlace;
  readonly staging: string;
  readonly caseless: boolean;
  /** KiB, as they were told. */
  readonly free: string;
}

function bytesOfKib(text: string): number | null {
  return /^\d{1,13}$/.test(text) ? Number(text) * 1024 : null;
}

async function stage(
  commands: RemoteCommands,
  { place, staging, caseless, free: told }: Stage,
  tar: Readable,
  limits: UnpackLimits,
  signal: AbortSignal,
): Promise<Staged> {
  const staged = nothingStaged(place.tellsContents === true ? createContents() : null);
  const stop = new AbortController();
  const onAbort = (): void => stop.abort(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  const { script, encoding } = encodingFor(place.tools);
  let first = true;
  const free = async (): Promise<number | null> => {
    if (first) {
      first = false;
      return bytesOfKib(told);
    }
    const { stdout } = await runToEnd(commands, { script: FREE, args: [staging] }, MOST_ANSWER_BYTES, stop.signal);
    return bytesOfKib(stdout.toString("latin1").trim());
  };
  const failure: { error?: unknown } = {};
  const bytes = async function* (): AsyncGenerator<Buffer> {
    try {
      for await (const piece of gathered(vetted(tar, staged, { limits, encoding, caseless, free }))) {
        tidyAfter(piece.length);
        yield piece;
      }
    } catch (error) {
      failure.error = error;
      stop.abort(error);
      throw error;
    }
  };
  const stdin = Readable.from(bytes(), { objectMode: false });
  stdin.on("error", () => {}); // it is the failure that is thrown
  try {
    const { code, stderr } = await runToEnd(
      commands,
      { script, args: [staging], stdin },
      MOST_ANSWER_BYTES,
      stop.signal,
    );
    if (code !== 0 || !staged.complete) {
      const why = lastLine(stderr.replace(/^.*Exiting with failure status.*\n?/m, "")) || `status ${code}`;
      throw new SystemFailure(`Cannot unpack: ${fileNameText(Buffer.from(why).toString("latin1"))}`);
    }
    return staged;
  } catch (error) {
    signal.throwIfAborted();
    throw "error" in failure ? failure.error : error;
  } finally {
    signal.removeEventListener("abort", onAbort);
    stdin.destroy();
    stop.abort(new Error("no more is written"));
  }
}
