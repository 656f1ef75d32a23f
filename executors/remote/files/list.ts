import { SystemFailure } from "../../../src/errors.ts";
import { type FileList, type FileName, type FileSelection, withoutTrailingSlashes } from "../../../src/workspace.ts";
import { createGathering, createNameCount, type Found } from "../../common/files/found.ts";
import { pathOf } from "../../common/files/paths.ts";
import { selectFiles } from "../../common/files/select-files.ts";
import type { RemoteCommands } from "../commands.ts";
import type { RemotePlace } from "../place.ts";
import { lastLine } from "../run-to-end.ts";
import { fileOf, findFiles } from "./find-files.ts";
import { askRows, bytesOfLines, calls } from "./rows.ts";

/** The working copy's own configuration belongs to the job: nothing of it is run, nor are its owner's rights a reason to stop. */
const UNTRACKED = `
cd "$1" || exit
LC_ALL=C GIT_TERMINAL_PROMPT=0 exec git -c core.fsmonitor=false -c safe.directory='*' ls-files --others -z
`;

/** A name and where it leads, each followed by a NUL; `readlink` adds a line feed. */
const TARGETS = `
LC_ALL=C; export LC_ALL
targets() { for link do printf '%s\\0' "$link"; readlink "$link"; printf '\\0'; done; }
eval "$(cat)"
`;

/** `WorkspaceFiles.list` over `commands`. */
export async function listRemote(
  commands: RemoteCommands,
  place: RemotePlace,
  select: FileSelection,
  signal: AbortSignal,
): Promise<FileList> {
  const { root, tools } = place;
  const ask: Parameters<typeof findFiles>[0] = (request, onRow) => askRows(commands, place, request, onRow, signal);
  return await selectFiles(
    root,
    select,
    {
      find: (patterns) => findFiles(ask, patterns),
      async untracked(): Promise<Found> {
        if (!tools.programs.has("git")) throw new SystemFailure("git is not there");
        const names: string[] = [];
        const command = { script: UNTRACKED, args: [pathOf(root)] };
        const listed = createNameCount();
        const { code, stderr } = await readTokens(
          commands,
          command,
          (name) => {
            listed.count(name);
            names.push(name);
          },
          signal,
        );
        if (code !== 0) throw new SystemFailure(`git ended with status ${code}: ${lastLine(stderr)}`);
        const found = createGathering(createNameCount());
        await ask({ deep: names.map(withoutTrailingSlashes) }, (row) => found.add(row.path, fileOf(row)));
        return found;
      },
      async targets(links) {
        return await targetsOf(commands, root, links, signal);
      },
    },
    signal,
  );
}

/** Where links lead. One that cannot be read is not in the answer. */
export async function targetsOf(
  commands: RemoteCommands,
  root: string,
  links: readonly FileName[],
  signal: AbortSignal,
): Promise<Map<string, string>> {
  const top = pathOf(root);
  const targets = new Map<string, string>();
  const asked = new Set<string>(links);
  const kept = createNameCount();
  let name: string | null = null;
  const command = { script: TARGETS, args: [], stdin: bytesOfLines(calls("targets", links, top)) };
  await readTokens(
    commands,
    command,
    (token) => {
      if (name === null) name = token;
      else {
        const link = name.slice(top.length + 1);
        if (token.endsWith("\n") && asked.has(link)) {
          kept.count(token);
          targets.set(link, token.slice(0, -1));
        }
        name = null;
      }
    },
    signal,
  );
  return targets;
}

/** What comes between NULs, one character per byte. */
async function readTokens(
  commands: RemoteCommands,
  command: Parameters<RemoteCommands["start"]>[0],
  onToken: (token: string) => void,
  signal: AbortSignal,
): Promise<{ code: number; stderr: string }> {
  const { stdout, exit } = await commands.start(command, signal);
  exit.catch(() => {}); // its failure is thrown where it is awaited below
  let rest = "";
  try {
    for await (const chunk of stdout) {
      const parts = (rest + Buffer.from(chunk).toString("latin1")).split("\0");
      rest = parts.pop() ?? "";
      if (rest.length > 64 * 1024) throw new SystemFailure("A name has no end");
      for (const part of parts) onToken(part);
    }
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    stdout.destroy();
  }
  return await exit;
}
