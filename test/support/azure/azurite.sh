#!/usr/bin/env bash
# Installs Azurite, a server that behaves as Azure's storage, from npm into a cache outside the tree, where it is missing (360 MB),
# and prints the folder of its packages.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../fetched.sh"

fetch() {
  echo '{"private":true}' >"$parts/package.json"
  npm install --prefix "$parts" --ignore-scripts --no-audit --no-fund --silent azurite@3.37.0 >&2
}

fetched azurite 3.37.0 "$@"
echo "$parts/node_modules"
