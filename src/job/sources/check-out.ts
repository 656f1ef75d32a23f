import type { GitInfo } from "../job.ts";

/** `git check-out-anew COMMIT EMPTY`, known to the runner's own calls only. */
const NAME = "check-out-anew";

/** The tree without entries, which git knows without having it. */
const EMPTY_TREE = {
  sha1: "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
  sha256: "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
} as const;

/**
 * Checks a commit out where an earlier job could have written, and believes nothing that it left. git takes an object's
 * name for its content and an index's times for a file's, so:
 * - the index is made anew, out of two trees, as with one git would copy the names of its directories into it: `write-tree`
 *   then finds these by hashing, and the name that comes out must be the one of the commit, whose own hash `rev-parse` checks;
 * - each file is hashed: what is as it should be stays, with its time; the rest is written, and hashed once more;
 * - a file that differs even then is one that filters do not give back (line ends, say): there the object itself is hashed.
 * What was in neither is left for `git clean`.
 */
const SCRIPT = `f() {
refresh() { git update-index --refresh >/dev/null 2>&1; }
tree=$(git rev-parse --verify "$1^{tree}") && git read-tree "$2" "$1" || return
if [ "$(git write-tree)" != "$tree" ]; then
echo "error: the objects of commit $1 are not what their names say" >&2
return 1
fi
refresh && return
git checkout-index --force --all --quiet || return
refresh && return
changed=$(git diff-files) || return
blobs=$(printf '%s\\n' "$changed" | sed -n 's/^:1[02]0[0-7]* [0-7]* \\([0-9a-f]*\\) .*/\\1^{blob}/p')
[ -n "$blobs" ] || return 0
sound=$(printf '%s\\n' "$blobs" | git cat-file --batch-check | sed -n 's/ blob [0-9]*$/^{blob}/p')
if [ "$sound" != "$blobs" ]; then
echo "error: files of commit $1 are not what their names say" >&2
return 1
fi
git checkout-index --force --all --quiet -u
}; f`;

/** For the configuration of the runner's calls: a program that git starts with its own shell, also on Windows. */
export const CHECK_OUT_ALIAS = { name: NAME, value: `!${SCRIPT}` } as const;

/** @param commit a full id, or `HEAD` */
export function checkOutAnew(commit: string, objectFormat: GitInfo["objectFormat"]): readonly [string, string, string] {
  return [NAME, commit, EMPTY_TREE[objectFormat]];
}
