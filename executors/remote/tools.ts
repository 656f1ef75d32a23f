import { z } from "zod";
import { describeError, SystemFailure } from "../../src/errors.ts";
import type { RemoteCommands } from "./commands.ts";
import { runToEnd } from "./run-to-end.ts";

/** What a script needs that goes on without its connection (`durable/programs.ts`), besides the shell. */
const LASTING = ["dd", "tail", "wc", "cat", "sleep", "mkdir"] as const;
/** Programs whose presence is found out. */
const PROGRAMS = ["git", "find", "setsid", "pwsh", ...LASTING] as const;
type ProgramName = (typeof PROGRAMS)[number];

/** What there is where a job's files are. */
export interface RemoteTools {
  /** Path of the POSIX shell. */
  readonly sh: string;
  /** Path of bash, if there is one. */
  readonly bash: string | null;
  /** Paths of those programs that are there; a bare name where the shell itself brings the program. */
  readonly programs: ReadonlyMap<ProgramName, string>;
  /** -1 where `id` is missing. */
  readonly uid: number;
  readonly gid: number;
  /** How names, kinds, sizes, modes and times of files are asked for; `null`: not at all. */
  readonly stat: "find -printf" | "stat -c" | "stat -f" | null;
  /** `plain`: only the options that all have, busybox's for one. */
  readonly tar: "gnu" | "bsd" | "plain" | null;
  /** What reads so many bytes of a pipe and not one more. */
  readonly exactRead: "head" | "dd" | null;
}

/** Where shells are looked for first, so that a PATH without them does no harm. */
const PROGRAM = `
LC_ALL=C; export LC_ALL
say() { printf '%s %s\\n' "$1" "$2"; }
first() {
  name=$1; shift
  for at do [ -x "$at" ] && [ ! -d "$at" ] && { say "$name" "$at"; return; }; done
  at=$(command -v "$name" 2>/dev/null) && [ -n "$at" ] && say "$name" "$at"
}
first bash /usr/local/bin/bash /usr/bin/bash /bin/bash
first sh /usr/local/bin/sh /usr/bin/sh /bin/sh /busybox/sh
for program in ${PROGRAMS.join(" ")}; do first "$program"; done
say uid "$(id -u 2>/dev/null)"
say gid "$(id -g 2>/dev/null)"
case "$(find / -maxdepth 0 -printf '%y %m %s %T@ %l.' 2>/dev/null)" in
  d\\ [0-9]*\\ [0-9]*\\ [0-9]*\\ .) say facts 'find -printf';;
  *) case "$(stat -c '%f %s %Y.' / 2>/dev/null)" in
    4[0-9a-f][0-9a-f][0-9a-f]\\ [0-9]*\\ [0-9]*.) say facts 'stat -c';;
    *) case "$(stat -f '%p %z %Fm.' / 2>/dev/null)" in
      4[0-9]*\\ [0-9]*\\ [0-9]*.) say facts 'stat -f';;
    esac;;
  esac;;
esac
if command -v tar >/dev/null 2>&1; then
  case "$(tar --version 2>&1 </dev/null)" in *'GNU tar'*) say form gnu;; *bsdtar*) say form bsd;; *) say form plain;; esac
fi
if [ "$(printf abcdef | { head -c 3 >/dev/null 2>&1; cat; })" = def ]; then say exact head
elif [ "$({ printf ab; printf cdef; } | { dd bs=3 count=1 iflag=fullblock >/dev/null 2>&1; cat; })" = def ]; then say exact dd
fi
say end .
`;

function oneOf<T extends string>(known: readonly T[], text: string | undefined): T | null {
  return known.find((one) => one === text) ?? null;
}

/**
 * One round trip.
 * @throws {SystemFailure} there is no POSIX shell, or what answered is none
 */
export async function probeTools(commands: RemoteCommands, signal: AbortSignal): Promise<RemoteTools> {
  const { code, stdout, stderr } = await runToEnd(commands, { script: PROGRAM, args: [] }, 64 * 1024, signal);
  const said = new Map<string, string>();
  for (const line of stdout.toString("utf8").split("\n")) {
    const blank = line.indexOf(" ");
    if (blank > 0 && !said.has(line.slice(0, blank))) said.set(line.slice(0, blank), line.slice(blank + 1));
  }
  if (said.get("end") === undefined) {
    const why = describeError(stderr.trim() || `status ${code}`);
    throw new SystemFailure(`There is no POSIX shell (sh) that could find out what else there is: ${why}`);
  }
  const number = (name: string): number => (/^\d{1,10}$/.test(said.get(name) ?? "") ? Number(said.get(name)) : -1);
  const programs = new Map<ProgramName, string>();
  for (const name of PROGRAMS) {
    const path = said.get(name);
    if (path !== undefined) programs.set(name, path);
  }
  return {
    sh: said.get("sh") ?? "sh",
    bash: said.get("bash") ?? null,
    programs,
    uid: number("uid"),
    gid: number("gid"),
    stat: programs.has("find") ? oneOf(["find -printf", "stat -c", "stat -f"], said.get("facts")) : null,
    tar: oneOf(["gnu", "bsd", "plain"], said.get("form")),
    exactRead: oneOf(["head", "dd"], said.get("exact")),
  };
}

/** What a place lacks for scripts that go on without their connection. */
export function missingToLast({ programs }: Pick<RemoteTools, "programs">): readonly string[] {
  return LASTING.filter((name) => !programs.has(name));
}

const storedSchema = z.object({
  sh: z.string(),
  bash: z.string().nullable(),
  programs: z.array(z.tuple([z.enum(PROGRAMS), z.string()])),
  uid: z.number(),
  gid: z.number(),
  stat: z.enum(["find -printf", "stat -c", "stat -f"]).nullable(),
  tar: z.enum(["gnu", "bsd", "plain"]).nullable(),
  exactRead: z.enum(["head", "dd"]).nullable(),
});

/** Tools as a note has them, for who finds the place again without a look at it. */
export const storedTools = storedSchema.transform(
  ({ programs, ...tools }): RemoteTools => ({ ...tools, programs: new Map(programs) }),
);

export function storeTools({ programs, ...tools }: RemoteTools): z.input<typeof storedSchema> {
  return { ...tools, programs: [...programs] };
}
