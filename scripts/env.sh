# Source me:  . scripts/env.sh   puts `edge_vision`, its nodes and its ROS on the path of this shell (bash, zsh).
_edge_vision_root=$(cd "$(dirname "${BASH_SOURCE[0]:-$0}")/.." && pwd)
if [ ! -f "$_edge_vision_root/install/setup.sh" ]; then
  echo "edge_vision is not built yet: run $_edge_vision_root/scripts/setup.sh" >&2
else
  for _edge_vision_distro in ${ROS_DISTRO:-} jazzy kilted rolling; do
    if [ -f "/opt/ros/$_edge_vision_distro/setup.sh" ]; then
      . "/opt/ros/$_edge_vision_distro/setup.${ZSH_VERSION:+z}${BASH_VERSION:+ba}sh"
      break
    fi
  done
  . "$_edge_vision_root/.venv/bin/activate"
  . "$_edge_vision_root/install/local_setup.${ZSH_VERSION:+z}${BASH_VERSION:+ba}sh"
  if [ ! -d "/opt/ros/${ROS_DISTRO:-none}" ]; then
    # ROS from wheels: the environment itself is the prefix.
    export ROS_DISTRO=jazzy ROS_VERSION=2 ROS_PYTHON_VERSION=3
    case ":${AMENT_PREFIX_PATH:-}:" in
      *":$VIRTUAL_ENV:"*) ;;
      *) export AMENT_PREFIX_PATH="${AMENT_PREFIX_PATH:+$AMENT_PREFIX_PATH:}$VIRTUAL_ENV" ;;
    esac
  fi
  export PATH="$_edge_vision_root/install/edge_vision/bin:$_edge_vision_root/install/edge_vision/lib/edge_vision:$PATH"
fi
unset _edge_vision_root _edge_vision_distro
