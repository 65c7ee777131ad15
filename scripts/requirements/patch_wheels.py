"""Makes the ROS wheels' CMake files point at this Python: they carry the paths of the machine that built them.

Usage: patch_wheels.py VENV/share
"""

import re
import sys
import sysconfig
from pathlib import Path

import numpy

REWRITES = (
    (re.compile(r"/opt/python/cp\d+-cp\d+/include/python3\.\d+"), sysconfig.get_path("include")),
    (re.compile(r"/opt/python/cp\d+-cp\d+/lib/python3\.\d+/site-packages/numpy/_?core/include"), numpy.get_include()),
)


def patch(share: Path) -> int:
    """Rewrites every *.cmake below `share`; returns how many files changed."""
    changed = 0
    for path in share.rglob("*.cmake"):
        text = path.read_text()
        patched = text
        for pattern, replacement in REWRITES:
            patched = pattern.sub(replacement, patched)
        if patched != text:
            path.write_text(patched)
            changed += 1
    return changed


if __name__ == "__main__":
    print(f"[setup] CMake files of the wheels pointed at this Python: {patch(Path(sys.argv[1]))}", file=sys.stderr)
