#!/usr/bin/env bash
# Sets up what is missing and runs the main job: detect and track on a source (default: 20 s of a simulated conveyor belt).
# Usage: scripts/demo.sh [--source URI] [--model PATH] [--duration S] [--backend NAME] [--output DIR]
#        [--classes NAMES] ... (--help: all)
set -euo pipefail
scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$scripts/setup.sh"
set +u
# shellcheck source=scripts/env.sh
. "$scripts/env.sh"
# The demo is alone: it neither hears nor disturbs other ROS programs of the network.
export ROS_AUTOMATIC_DISCOVERY_RANGE=${ROS_AUTOMATIC_DISCOVERY_RANGE:-LOCALHOST}
exec edge_vision demo "$@"
