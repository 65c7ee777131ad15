#!/usr/bin/env bash
# The steps that the images have in common, run as root in a Dockerfile, with the clone (or a part of it) above this file:
#   install.sh ros                                        ROS 2 from packages.ros.org, where the base image has none
#   install.sh packages URL...                            .deb files, and .tar.gz with such in them
#   install.sh dependencies [--onnxruntime NAME] EXTRA... what package.xml and these extras of pyproject.toml ask for
#   install.sh build                                      the package, to /opt/edge_vision
#   install.sh user                                       the user that runs it
set -euo pipefail

source=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
prefix=${EDGE_VISION_PREFIX:-/opt/edge_vision}
: "${ROS_DISTRO:=jazzy}"
export DEBIAN_FRONTEND=noninteractive

say() { printf '[install] %s\n' "$*" >&2; }
fail() { printf '[install] error: %s\n' "$*" >&2; exit 1; }

clean_apt() { rm -rf /var/lib/apt/lists/* /tmp/packages; }

ros_setup() {  # the file to source: apt's place, or that of a ROS built from source (dustynv's images)
  local file
  for file in "/opt/ros/$ROS_DISTRO/setup.bash" "/opt/ros/$ROS_DISTRO/install/setup.bash"; do
    if [ -f "$file" ]; then echo "$file"; return; fi
  done
  return 1
}

source_ros() {
  if [ -n "${AMENT_PREFIX_PATH:-}" ]; then return; fi
  local file
  file=$(ros_setup) || fail "no ROS 2 $ROS_DISTRO under /opt/ros: run 'install.sh ros' first, or take a base image that has it"
  set +u
  # shellcheck source=/dev/null
  . "$file"
  set -u
}

# The Python that the nodes run with: that of an active environment (where the base image keeps TensorRT), or one of ours.
use_python() {
  python=$prefix/venv/bin/python
  if python3 -c 'import sys; sys.exit(sys.prefix == sys.base_prefix)'; then python=$(command -v python3); fi
}

ros() {
  if ros_setup >/dev/null; then say "ROS 2 $ROS_DISTRO is there"; return; fi
  # https://docs.ros.org/en/jazzy/Installation/Ubuntu-Install-Debs.html
  local deb=ros2-apt-source_1.1.0.noble_all.deb
  apt-get update
  apt-get install -y --no-install-recommends ca-certificates curl
  curl -fsSL --retry 3 -o "/tmp/$deb" "https://github.com/ros-infrastructure/ros-apt-source/releases/download/1.1.0/$deb"
  echo "35441f3092fd05773a3c397fab38661bec466584c7a1f1c05366579997cb5fe7  /tmp/$deb" | sha256sum --check --strict
  apt-get install -y --no-install-recommends "/tmp/$deb"
  rm "/tmp/$deb"
  apt-get update
  apt-get install -y --no-install-recommends "ros-$ROS_DISTRO-ros-base" build-essential python3-colcon-common-extensions python3-rosdep
  [ -e /etc/ros/rosdep/sources.list.d/20-default.list ] || rosdep init
  clean_apt
}

packages() {
  apt-get update
  apt-get install -y --no-install-recommends ca-certificates curl
  mkdir -p /tmp/packages
  local url
  for url in "$@"; do
    say "$url"
    case $url in
      *.tar.gz) curl -fsSL --retry 3 "$url" | tar -xz -C /tmp/packages --wildcards '*.deb' ;;
      *.deb) (cd /tmp/packages && curl -fsSL --retry 3 -O "$url") ;;
      *) fail "neither a .deb nor a .tar.gz: $url" ;;
    esac
  done
  find /tmp/packages -name '*.deb' -exec apt-get install -y --no-install-recommends {} +
  clean_apt
}

dependencies() {
  source_ros
  apt-get update
  apt-get install -y --no-install-recommends python3-venv
  rosdep update --rosdistro "$ROS_DISTRO"
  # What is on AMENT_PREFIX_PATH already is left alone (--ignore-src), and so is an OpenCV that was built for the board.
  local skip=()
  if python3 -c 'import cv2' 2>/dev/null; then skip=(--skip-keys "python3-opencv python3-numpy"); fi
  rosdep install --from-paths "$source" --ignore-src --rosdistro "$ROS_DISTRO" -y "${skip[@]}" \
    -t buildtool -t buildtool_export -t build -t build_export -t exec
  use_python
  [ -x "$python" ] || python3 -m venv --system-site-packages "$prefix/venv"
  # NumPy stays the one that ROS (cv_bridge) and the base image's packages were built with.
  "$python" "$source/docker/requirements.py" "$@" > /tmp/requirements.txt
  "$python" -c 'import numpy; print("numpy==" + numpy.__version__)' > /tmp/constraints.txt
  "$python" -m pip install --no-cache-dir --disable-pip-version-check -r /tmp/requirements.txt -c /tmp/constraints.txt
  rm /tmp/requirements.txt /tmp/constraints.txt
  clean_apt
}

build() {
  source_ros
  use_python
  local work
  work=$(mktemp -d)
  (cd "$work" && colcon --log-base log build --build-base build --install-base "$prefix" --merge-install --paths "$source" \
    --cmake-args -DBUILD_TESTING=OFF -DCMAKE_BUILD_TYPE=Release "-DPython3_EXECUTABLE=$python")
  rm -rf "$work"
  "$python" -m compileall -q "$prefix/lib"  # the user of the image cannot write there, and would compile at every start
  {
    if file=$(ros_setup); then echo ". $file"; fi
    echo ". $prefix/local_setup.bash"
    echo "export PATH=$(dirname "$python"):$prefix/bin:$prefix/lib/edge_vision:\$PATH"
  } > "$prefix/environment.sh"
  # That it starts, with the Python that it will have.
  set +u
  # shellcheck source=/dev/null
  . "$prefix/environment.sh"
  set -u
  edge_vision backends
}

user() {
  local taken
  if taken=$(getent passwd 1000 | cut -d: -f1) && [ -n "$taken" ]; then userdel -r "$taken" 2>/dev/null; fi
  local group
  for group in video render plugdev; do groupadd -f "$group"; done
  useradd --create-home --uid 1000 --groups video,render,plugdev --shell /bin/bash edge_vision
  install -d -o edge_vision -g edge_vision "${EDGE_VISION_CACHE:-/var/cache/edge_vision}"
}

step=${1:-}
case $step in
  ros|packages|dependencies|build|user) shift; "$step" "$@" ;;
  *) sed -n '2,7s/^# //p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
