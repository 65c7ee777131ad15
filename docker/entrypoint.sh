#!/usr/bin/env bash
# Puts ROS 2, edge_vision and its Python on the path, then starts
#   detect.launch.py      where nothing is given, or only arguments of it (name:=value, --show-args)
#   the command           that is given otherwise
set -e

# shellcheck source=/dev/null
. "${EDGE_VISION_PREFIX:-/opt/edge_vision}/environment.sh"

case ${1:-} in
  ''|*:=*|-*) exec ros2 launch edge_vision detect.launch.py "$@" ;;
  *) exec "$@" ;;
esac
