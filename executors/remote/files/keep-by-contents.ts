import type { FileKeeping } from "../../../src/workspace.ts";
import { createContents } from "./contents.ts";
import { type KeptPlace, keepingBy, lookAtAll, type Proof } from "./keep.ts";
import { type Facts, MOST_LOOKED_AT } from "./keep-shell.ts";
import { sumsOf } from "./sums.ts";

/**
 * Files where programs of a job run while a cache is restored, so that nothing that is seen then can be a record: they are compared with
 * what the runner unpacked, byte for byte, each time. Who does that has begun with the job that gets them, and no earlier job.
 * @param uid whose they must be
 */
export function keepingByContents(uid: string, kept: KeptPlace): FileKeeping | undefined {
  const { stat } = kept.place.tools;
  return stat === null || stat === "stat -f" ? undefined : keepingBy(contents(uid), kept);
}

function contents(uid: string): Proof {
  return {
    record: async ({ placed, contents: its }) => {
      if (its === undefined || its.entries > MOST_LOOKED_AT) return null;
      const { entries, attributes, all } = its;
      return {
        tops: placed.map((name) => ({ name, state: "" })),
        inside: `${attributes} ${all}`,
        entries,
        aside: null,
      };
    },
    canBe: (_, there) => there.every((facts) => facts !== undefined),
    async look(shell, { tops, inside: known, entries }, aside, paths) {
      const first: Facts[] = [];
      const found = createContents();
      const files: (readonly [path: string, facts: Facts])[] = [];
      const links: (readonly [path: string, facts: Facts])[] = [];
      let isPlain = true;
      const isSound = await lookAtAll(shell, { base: aside, tops: paths, most: entries }, (facts, top, inside) => {
        const { kind, owner, mode, size, mtimeSeconds } = facts;
        const path = `${tops[top]?.name ?? ""}${inside}`;
        if (inside === "") first[top] = facts;
        // Of names with these, what is told of several files cannot be told apart.
        if (owner !== uid || /[\n\\]/.test(path)) isPlain = false;
        if (kind === "directory") found.directory(path, { mode });
        else if (kind === "symlink") links.push([path, facts]);
        else if (mtimeSeconds === null) isPlain = false;
        else {
          files.push([path, facts]);
          found.file(path, { mode, size, mtimeSeconds }, "");
        }
      });
      if (!isSound || !isPlain) return null;
      const targets = await shell.targets(links.map(([, facts]) => facts.path));
      for (const [index, [path]] of links.entries()) found.link(path, targets[index] ?? "");
      const [attributes] = known.split(" ");
      if (found.digest().attributes !== attributes) return null;
      const sums = await sumsOf(
        shell,
        files.map(([, facts]) => facts),
      );
      for (const [index, [path, { mode, size, mtimeSeconds }]] of files.entries()) {
        found.file(path, { mode, size, mtimeSeconds: mtimeSeconds ?? 0 }, sums[index] ?? "");
      }
      return `${attributes} ${found.digest().all}` === known ? first : null;
    },
    moved: async (_, { tops }) => tops,
  };
}
