#!/usr/bin/env bash
# Sets up what is missing, then lint, types, the import rule and every test.   Usage: scripts/test.sh [pytest arguments]
set -euo pipefail
scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$scripts")
"$scripts/setup.sh" --with-tests
set +u
# shellcheck source=scripts/env.sh
. "$scripts/env.sh"
set -u
cd "$root"
export ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST PYTHONUNBUFFERED=1

step() { printf '\n== %s\n' "$*"; }
step "ruff"; ruff check . ; ruff format --check --quiet . || { echo "run: ruff format ." >&2; exit 1; }
step "mypy"; mypy
step "import-linter"; (cd src && PYTHONPATH=. lint-imports --config ../pyproject.toml)
if [ $# -gt 0 ]; then
  step "pytest $*"; exec python -m pytest -p no:cacheprovider "$@"
fi
# Unit tests share the cores. Those of nodes do not: they start processes of their own and wait for them.
failed=0
step "unit tests"; python -m pytest -p no:cacheprovider -n auto --dist loadfile test/unit || failed=1
step "tests of running nodes"; python -m pytest -p no:cacheprovider test/ros || failed=1
[ "$failed" = 0 ] || { printf '\n== some tests failed: see above\n' >&2; exit 1; }
