import type { Op, Test } from "../../shell.ts";
import { not, when } from "../plan/when.ts";

/** Files of `.git` that git opens without looking what they are: a FIFO there would hold it for ever. */
const PLAIN_FILES = ["HEAD", "packed-refs", "shallow", "FETCH_HEAD"] as const;

/** What changes how git acts, and what an earlier job may have left to that end. */
const REMOVED = [
  "index",
  "hooks",
  "info",
  "branches",
  "remotes",
  "worktrees",
  "commondir",
  "gitdir",
  "config.worktree",
  "refs/replace",
  "objects/info",
  "gc.log",
  "gc.pid",
  // What `checkout` would have put an end to.
  ..."MERGE_HEAD MERGE_MSG MERGE_MODE MERGE_RR AUTO_MERGE SQUASH_MSG CHERRY_PICK_HEAD REVERT_HEAD".split(" "),
  ..."BISECT_LOG BISECT_START rebase-merge rebase-apply sequencer".split(" "),
] as const;

/** The same inside of the repositories of submodules, whose names are not known here: found by the names of the files. */
const REMOVED_OF_SUBMODULES = [
  ..."*.lock config config.worktree commondir gitdir attributes grafts alternates http-alternates".split(" "),
  ..."sparse-checkout applypatch-msg pre-applypatch post-applypatch pre-commit pre-merge-commit".split(" "),
  ..."prepare-commit-msg commit-msg post-commit pre-rebase post-checkout post-merge pre-push post-rewrite".split(" "),
  ..."pre-auto-gc fsmonitor-watchman reference-transaction post-index-change push-to-checkout".split(" "),
];

/**
 * An earlier job may have left anything in `root`: what cannot be a working copy of ours is removed, and of one that can be
 * all that makes git run or read something else. Afterwards `root/.git` is missing or a directory with objects and refs.
 * No program is run but `find` for stale locks, and `rm` for what is there to remove.
 */
export function disarm(root: string, submodules: boolean): Op[] {
  const git = `${root}/.git`;
  const wipe: Op = { op: "remove", path: root };
  const unsound: readonly Test[] = [
    { test: "symlink", path: root },
    not({ test: "directory", path: root }),
    { test: "symlink", path: git },
    ...["objects", "refs"].flatMap((name): Test[] => [
      { test: "symlink", path: `${git}/${name}` },
      not({ test: "directory", path: `${git}/${name}` }),
    ]),
  ];
  const odd = PLAIN_FILES.map((name) => `${git}/${name}`);
  return [
    ...unsound.map((test) => when(test, [wipe])),
    ...odd.map((path) => when({ test: "exists", path }, [when(not({ test: "file", path }), [wipe])])),
    when({ test: "directory", path: git }, [
      ...REMOVED.map((name): Op => ({ op: "remove", path: `${git}/${name}` })),
      { op: "removeNamed", path: git, names: ["*.lock"] },
      ...(submodules ? disarmSubmodules(root) : []),
    ]),
  ];
}

/**
 * The links from a submodule's files to its repository go, and so do the repositories' settings: `git submodule update`
 * makes both anew. A whole repository in the place of a link is nothing that git makes: away with all.
 */
function disarmSubmodules(root: string): Op[] {
  return [
    when(
      { test: "nested", path: root, name: ".git" },
      [{ op: "remove", path: root }],
      [
        { op: "removeNamed", path: root, names: [".git"] },
        { op: "removeNamed", path: `${root}/.git/modules`, names: REMOVED_OF_SUBMODULES },
      ],
    ),
  ];
}
