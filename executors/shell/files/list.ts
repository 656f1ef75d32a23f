import type { Stats } from "node:fs";
import { lstat, readdir, readlink } from "node:fs/promises";
import {
  type FileList,
  type FileName,
  type FileSelection,
  fileName,
  withoutTrailingSlashes,
} from "../../../src/workspace.ts";
import { createGathering, createNameCount, type FoundFile, type Gathering } from "../../common/files/found.ts";
import { fitsSegment, type Segment } from "../../common/files/glob.ts";
import { below, pathOf } from "../../common/files/paths.ts";
import { selectFiles } from "../../common/files/select-files.ts";
import { bytesOf, inParallel, isMissing, unreadable } from "./paths.ts";

interface ListHost {
  /** The checkout, absolute. */
  readonly root: string;
  /** What git does not know, relative to the checkout; a nested repository ends with a slash. */
  untracked(signal: AbortSignal): Promise<readonly string[]>;
}

/** Calls to the file system at once. */
const WIDTH = 16;

/** `WorkspaceFiles.list` on this machine. */
export async function listFiles(
  { root, untracked }: ListHost,
  select: FileSelection,
  signal: AbortSignal,
): Promise<FileList> {
  const top = pathOf(root);
  const at = (path: string): Buffer => bytesOf(path === "" ? top : `${top}/${path}`);

  const look = async (path: string): Promise<Stats | null> =>
    await lstat(at(path)).catch((error: unknown) => {
      if (isMissing(error)) return null;
      throw unreadable(path, error);
    });
  const namesIn = async (path: string): Promise<FileName[]> => {
    signal.throwIfAborted();
    const names = await readdir(at(path), { encoding: "buffer" }).catch((error: unknown) => {
      if (isMissing(error)) return [];
      throw unreadable(path, error);
    });
    return names.map((name) => fileName(name));
  };
  const names = createNameCount();
  const gather = (): Gathering & { take(path: string, stats: Stats): Promise<void> } => {
    const gathering = createGathering(names);
    /** A thing and, for a directory, all that is in it. */
    const take = async (path: string, stats: Stats): Promise<void> => {
      if (gathering.files.has(path)) return;
      const kind = kindOf(stats);
      if (kind === null) {
        gathering.add(path, null);
        return;
      }
      gathering.add(path, { kind, size: stats.size, mode: stats.mode, mtimeMs: stats.mtimeMs });
      if (kind !== "directory") return;
      await inParallel(await namesIn(path), WIDTH, async (name) => {
        const inside = below(path, name);
        const its = await look(inside);
        if (its !== null) await take(inside, its);
      });
    };
    return Object.assign(gathering, { take });
  };

  return await selectFiles(
    root,
    select,
    {
      async find(patterns) {
        const answers: Gathering[] = [];
        for (const alternatives of patterns) {
          const gathered = gather();
          for (const segments of alternatives) await expand("", segments, { look, namesIn, at: gathered.take });
          answers.push(gathered);
        }
        return answers;
      },
      async untracked() {
        const gathered = gather();
        await inParallel(await untracked(signal), WIDTH, async (name) => {
          const path = withoutTrailingSlashes(name);
          const stats = await look(path);
          if (stats !== null) await gathered.take(path, stats);
        });
        return gathered;
      },
      async targets(links) {
        const targets = new Map<string, string>();
        await inParallel(links, WIDTH, async (path) => {
          const target = await readlink(at(path), { encoding: "buffer" }).catch(() => null);
          if (target !== null) targets.set(path, target.toString("latin1"));
        });
        return targets;
      },
    },
    signal,
  );
}

function kindOf(stats: Stats): FoundFile["kind"] | null {
  return stats.isFile() ? "file" : stats.isDirectory() ? "directory" : stats.isSymbolicLink() ? "symlink" : null;
}

interface Expansion {
  look(path: string): Promise<Stats | null>;
  namesIn(path: string): Promise<readonly FileName[]>;
  at(path: string, stats: Stats): Promise<void>;
}
/** Find what a pattern means, one directory at a time; a link is never gone through. */
async function expand(start: string, segments: readonly Segment[], { look, namesIn, at }: Expansion): Promise<void> {
  const seen = new Set<string>();
  const visit = async (path: string, index: number): Promise<void> => {
    // With several `**` there are many ways to the same place.
    const key = `${index}/${path}`;
    if (seen.has(key)) return;
    seen.add(key);
    const segment = segments[index];
    const stats = await look(path);
    if (stats === null) return;
    if (segment === undefined) {
      await at(path, stats);
      return;
    }
    if (!stats.isDirectory()) return;
    if (segment.kind === "literal") {
      await visit(below(path, segment.name), index + 1);
      return;
    }
    const last = segment.kind === "any depth" && index === segments.length - 1;
    if (last) {
      await at(path, stats);
      return;
    }
    if (segment.kind === "any depth") await visit(path, index + 1);
    await inParallel(await namesIn(path), WIDTH, async (name) => {
      if (!fitsSegment(segment, name)) return;
      await visit(below(path, name), segment.kind === "any depth" ? index : index + 1);
    });
  };
  await visit(start, 0);
}
