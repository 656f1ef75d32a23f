#!/usr/bin/env bash
# Unpacks Debian's git-lfs into a cache outside the tree, where it is missing, and prints the folder of its program. It is not
# installed: its package would change the settings of git for all of this machine.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/fetched.sh"

fetch() {
  (cd "$parts" && apt-get download -qq -o APT::Sandbox::User= git-lfs >&2 && dpkg -x git-lfs_*.deb .)
}

fetched git-lfs debian "$@"
echo "$parts/usr/bin"
