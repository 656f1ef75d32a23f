import { SystemFailure } from "../../../src/errors.ts";
import { type TarEntry, tarEnd, tarHeader, tarPadding } from "../../../src/files/tar.ts";
import type { RemoteTools } from "../tools.ts";
import type { Encoding } from "./vet.ts";

/** `$1` is the staging directory. No owner is restored; busybox leaves out links that lead elsewhere unless it is told not to. */
const TAR: Readonly<Record<"gnu" | "bsd" | "plain", string>> = {
  gnu: `cd "$1" && LC_ALL=C exec tar -xpo -f -`,
  bsd: `cd "$1" && LC_ALL=C exec tar -xpo -f -`,
  plain: `cd "$1" && LC_ALL=C EXTRACT_UNSAFE_SYMLINKS=1 exec tar -xo -f -`,
};

const asTar: Encoding = {
  before: tarHeader,
  after: ({ size }) => Buffer.alloc(tarPadding(size)),
  end: tarEnd,
};

/** A line for each entry, a file's bytes after its line. Names are written so that `printf %b` makes them what they are. */
const asLines: Encoding = {
  before: ({ kind, size, mode, mtimeSeconds, name, target }: TarEntry) =>
    Buffer.from(
      `${kind} ${size} ${mode.toString(8)} ${touchTime(mtimeSeconds)} ${escaped(name)} ${escaped(target)}\n`,
      "latin1",
    ),
  after: () => Buffer.alloc(0),
  end: Buffer.from("end\n"),
};

const EXACT: Readonly<Record<"head" | "dd", string>> = {
  head: `exact() { head -c "$1"; }`,
  dd: `exact() {
  [ "$1" -lt 65536 ] || dd bs=65536 count=$(($1 / 65536)) iflag=fullblock 2>/dev/null || return
  [ $(($1 % 65536)) -eq 0 ] || dd bs=$(($1 % 65536)) count=1 iflag=fullblock 2>/dev/null
}`,
};

const LINES = `
LC_ALL=C; export LC_ALL
cd "$1" || exit
umask 077
made=.
while read -r kind size mode stamp name target; do
  [ "$kind" != end ] || exit 0
  name=$(printf '%b.' "$name"); name=\${name%.}
  parent=\${name%/*}
  [ "$parent" = "$made" ] || mkdir -p "$parent" || exit
  made=$parent
  case $kind in
    directory) mkdir -p "$name" || exit;;
    file)
      [ ! -e "$name" ] || rm -f "$name" || exit
      if [ "$size" -eq 0 ]; then : >"$name"; else exact "$size" >"$name"; fi || exit
      [ "$stamp" = - ] || TZ=UTC0 touch -t "$stamp" "$name"
      chmod "$mode" "$name" || exit;;
    symlink)
      target=$(printf '%b.' "$target"); target=\${target%.}
      rm -f "$name"; ln -s "$target" "$name" || exit;;
  esac
done
exit 9
`;

function escaped(name: string): string {
  if (name === "") return "-";
  return name.replace(/[^A-Za-z0-9_./=+:,@%]/g, (char) => `\\0${char.charCodeAt(0).toString(8).padStart(3, "0")}`);
}

/** For `touch -t` with `TZ=UTC0`; `-` where the year has no four digits. */
export function touchTime(seconds: number): string {
  const time = new Date(seconds * 1000);
  const text = Number.isNaN(time.getTime()) ? "" : time.toISOString();
  const match = /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)/.exec(text);
  return match === null ? "-" : `${match.slice(1, 6).join("")}.${match[6]}`;
}

/**
 * How entries get there: by tar, or by a loop of the shell.
 * @throws {SystemFailure} there is nothing to do it with
 */
export function encodingFor({ tar, exactRead }: RemoteTools): { readonly script: string; readonly encoding: Encoding } {
  if (tar !== null) return { script: TAR[tar], encoding: asTar };
  if (exactRead === null) {
    throw new SystemFailure("Files cannot be unpacked where the job runs: there is no tar; please install it there");
  }
  return { script: `${EXACT[exactRead]}\n${LINES}`, encoding: asLines };
}
