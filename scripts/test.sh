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
step "pytest"
exec python -m pytest -p no:cacheprovider "$@"
