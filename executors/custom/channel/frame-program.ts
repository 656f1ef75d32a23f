import type { ShellName } from "../../../src/shell.ts";
import { quoted } from "../../remote/index.ts";

/** Where a program's stdin comes from: nowhere, from the script's own text, or from a file that was put together before. */
export type ChannelInput =
  | { readonly from: "nowhere" }
  | { readonly from: "text"; readonly bytes: Buffer }
  | { readonly from: "file"; readonly path: string; readonly bytes: number };

/**
 * Runs `$2` with the arguments behind `$5`, and puts what it says between marks: its stdout as lines of base64 and how many
 * these are, then its status and the end of its stderr. The marks' number is `$1`; no text of the script holds a whole mark.
 * `$3`: `nowhere`, `text` or a file, whose length is `$4`.
 */
const FRAME = `
LC_ALL=C; export LC_ALL
number=$1 program=$2 input=$3 length=$4; shift 4
mark() { printf '%s-%s-%s\\n' ALLOY "$number" "$1"; }
if base64 -w 76 </dev/null >/dev/null 2>&1; then enc() { base64 -w 76; }
elif base64 -b 76 </dev/null >/dev/null 2>&1; then enc() { base64 -b 76; }
elif base64 </dev/null >/dev/null 2>&1; then enc() { base64; }
elif openssl version >/dev/null 2>&1; then enc() { openssl base64; }
else mark BEGIN; mark END; echo S:69; mark DONE; exit 0
fi
if [ "$(echo YQ== | base64 -d 2>/dev/null)" = a ]; then dec() { base64 -d; }
elif [ "$(echo YQ== | base64 -D 2>/dev/null)" = a ]; then dec() { base64 -D; }
else dec() { openssl base64 -d; }
fi
run() {
  case $input in
    nowhere) sh -c "$program" alloy-runner "$@" </dev/null;;
    text) dec | sh -c "$program" alloy-runner "$@";;
    *) if [ "$(($(wc -c <"$input")))" -eq "$length" ]; then sh -c "$program" alloy-runner "$@" <"$input"
      else echo "$input has not the $length bytes that were written to it" >&2; false; fi;;
  esac
}
exec 3>&1
mark BEGIN
said=$(
  { { { run "$@" 3>&- 4>&-; echo "S:$?" >&4; } | enc | sed -n 'p;$=' >&3; } 2>&1 | tail -c 16384 | enc | sed 's/^/E:/'; } 4>&1
)
mark END
printf '%s\\n' "$said"
mark DONE
case $input in nowhere|text) ;; *) rm -f "$input";; esac
`;

const LINE = 76;

function base64Lines(bytes: Buffer): string {
  const text = bytes.toString("base64");
  const lines: string[] = [];
  for (let at = 0; at < text.length; at += LINE) lines.push(text.slice(at, at + LINE));
  return lines.join("\n");
}

export interface ChannelScript {
  /** The number in the marks. */
  readonly number: string;
  readonly program: string;
  /** One character (0–255) per byte. */
  readonly args: readonly string[];
  readonly input: ChannelInput;
  /** Printed outside of the frame, so that the trace shows it; may hold `$(…)`. */
  readonly before?: string;
}

/** The whole script, for any shell that knows quotes and here-documents. Bytes, as arguments need not be UTF-8. */
function posixScript({ number, program, args, input, before }: ChannelScript): Buffer {
  const from = input.from === "file" ? input.path : input.from;
  const length = input.from === "file" ? String(input.bytes) : "";
  const words = ["sh", "-c", FRAME, "alloy-runner", number, program, from, length, ...args];
  const end = `ALLOY-TEXT-${number}`;
  const stdin = input.from === "text" ? ` <<'${end}'\n${base64Lines(input.bytes)}\n${end}\n` : " </dev/null\n";
  return Buffer.from(`${before === undefined ? "" : `${before}\n`}${quoted(words)}${stdin}exit 0\n`, "latin1");
}

/** The same by PowerShell, where a POSIX shell is, too. */
function pwshScript(script: ChannelScript): Buffer {
  const { number } = script;
  return Buffer.from(`$ErrorActionPreference = 'Stop'
$sh = Get-Command sh -CommandType Application -ErrorAction SilentlyContinue | Select-Object -First 1
if ($null -eq $sh) {
  foreach ($mark in 'BEGIN', 'END', 'S:68', 'DONE') {
    if ($mark.StartsWith('S')) { [Console]::Out.WriteLine($mark) } else { [Console]::Out.WriteLine(('ALLOY', '${number}', $mark) -join '-') }
  }
  exit 0
}
$start = [Diagnostics.ProcessStartInfo]::new($sh.Source)
$start.RedirectStandardInput = $true
$start.UseShellExecute = $false
$started = [Diagnostics.Process]::Start($start)
$bytes = [Convert]::FromBase64String(@'
${base64Lines(posixScript(script))}
'@)
$started.StandardInput.BaseStream.Write($bytes, 0, $bytes.Length)
$started.StandardInput.Close()
$started.WaitForExit()
exit 0
`);
}

export function channelScript(script: ChannelScript, shell: ShellName): Buffer {
  return shell === "pwsh" || shell === "powershell" ? pwshScript(script) : posixScript(script);
}
