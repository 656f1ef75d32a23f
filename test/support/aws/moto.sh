#!/usr/bin/env bash
# Installs moto, a server that behaves as AWS, from PyPI into a cache outside the tree, where it is missing (140 MB), and prints
# the folder of its virtual environment.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../fetched.sh"

fetch() {
  python3 -m venv "$parts" >&2
  # Without "server": that would bring what other services of AWS need.
  "$parts/bin/pip" install --quiet --disable-pip-version-check "moto[ec2,autoscaling]==5.2.5" flask flask-cors >&2
}

fetched moto 5.2.5 "$@"
echo "$parts"
