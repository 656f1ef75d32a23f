#!/usr/bin/env bash
# Sets up and runs everything: types, style, build, binary, all tests. Arguments go to the test runner.
set -euo pipefail
if [ "${1:-}" = "--help" ]; then
  sed -n '2s/^# //p' "$0"
  exit 0
fi
cd "$(dirname "$0")/.."
bash scripts/setup-tests.sh
# npm writes this file when it has installed all of the lock file.
if [ ! -f node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  npm ci --no-audit --no-fund --loglevel=error
fi

ALLOY_TEST_STARTED=""
cluster=test/support/cluster/cluster.sh
stop_started() {
  # shellcheck disable=SC2086 # a list of names
  [ -z "$ALLOY_TEST_STARTED" ] || bash scripts/test-engine.sh stop $ALLOY_TEST_STARTED
  [ -z "${ALLOY_TEST_CLUSTER:-}" ] || bash "$cluster" stop
}
trap stop_started EXIT
# On a machine that never did, the cluster is built beside everything else. The tests that need it come last, and wait.
if ALLOY_TEST_CLUSTER="$(bash "$cluster" reserve $$)"; then
  export ALLOY_TEST_CLUSTER
  bash "$cluster" start --owner $$ --background
fi

npm run --silent check
npm run --silent binary

# Tests that need an engine say so when there is none, and fail in CI.
eval "$(bash scripts/test-engine.sh start docker podman || true)"
node_modules/.bin/node node_modules/vitest/vitest.mjs run --reporter=default --reporter=json --outputFile.json=out/test-results.json "$@"
