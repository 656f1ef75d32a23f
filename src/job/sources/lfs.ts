import type { Argv, Op } from "../../shell.ts";
import type { GitSettings } from "../plan/settings.ts";
import { succeeds, when } from "../plan/when.ts";

/** The files that LFS keeps: what was checked out are their pointers, as LFS was switched off for that. */
export function lfsFiles(git: GitSettings, reused: boolean, call: (...args: string[]) => Argv): Op[] {
  if (!git.lfs) return [];
  const usesLfs = succeeds(call("grep", "-q", "filter=lfs", "--", ".gitattributes", "*/.gitattributes"));
  // Files that are there are taken by their names: `fsck` puts aside what is not what its name says.
  const check = when(succeeds(call("lfs", "fsck")), []);
  // Without its filters in git's settings, which not every package brings, it would leave the pointers as they are.
  const install = when(succeeds(call("lfs", "install", "--local", "--skip-repo")), []);
  const pull: Op[] = [
    install,
    ...(reused ? [check] : []),
    { op: "unset", name: "GIT_LFS_SKIP_SMUDGE" },
    { op: "run", argv: call("lfs", "pull") },
  ];
  const warning = "Files of this repository are in Git LFS, which is not installed here: they stay pointers";
  const without: Op = { op: "print", text: warning, tone: "warning" };
  return [when({ test: "program", name: "git-lfs" }, [when(usesLfs, pull)], [when(usesLfs, [without])])];
}

/** Submodules came with pointers, as LFS was switched off for the check-out. One that has none costs a look at its attributes. */
export function submodulesLfs(
  submodule: (...args: string[]) => Argv,
  recursive: readonly string[],
  reused: boolean,
): Op {
  const each = (command: string): Argv => submodule("foreach", "--quiet", ...recursive, command);
  const uses = "git grep -q filter=lfs -- .gitattributes '*/.gitattributes'";
  const install = "git lfs install --local --skip-repo >/dev/null 2>&1; ";
  const check = reused ? "git lfs fsck >/dev/null 2>&1; " : "";
  const warning = "Submodules have files in Git LFS, which is not installed here: they get pointers";
  return when(
    succeeds(each(`! ${uses}`)),
    [],
    [
      when(
        { test: "program", name: "git-lfs" },
        [
          { op: "unset", name: "GIT_LFS_SKIP_SMUDGE" },
          { op: "run", argv: each(`if ${uses}; then ${install}${check}git lfs pull; fi`) },
        ],
        [{ op: "print", text: warning, tone: "warning" }],
      ),
    ],
  );
}
