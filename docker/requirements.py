"""Prints the requirements of edge_vision and some of its extras, a line each, without what the image has already.

    requirements.py [--onnxruntime NAME] EXTRA...

`pip install .[extra]` would install the package itself a second time, without its messages, beside what colcon builds.
--onnxruntime: another distribution of ONNX Runtime, such as onnxruntime-gpu==1.22.0. All share one folder, and the
last one that pip unpacks would win.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import sys
from pathlib import Path

import tomllib


def requirements(project: dict, extras: list[str], onnxruntime: str = "", has_opencv: bool = False) -> list[str]:
    """The lines. project: the table [project] of pyproject.toml. KeyError for an extra that it does not have."""
    lines = list(project["dependencies"])
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    result = []
    for line in lines:
        name = re.match(r"[A-Za-z0-9._-]+", line)[0].lower()  # type: ignore[index]  # a requirement begins with its name
        if name == "opencv-python-headless" and has_opencv:
            continue  # apt's cv2 says nothing to pip
        if name == "onnxruntime" and onnxruntime:
            line = onnxruntime
        if line not in result:
            result.append(line)
    return result


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--onnxruntime", default="")
    parser.add_argument("extras", nargs="*")
    arguments = parser.parse_args()
    file = Path(__file__).resolve().parents[1] / "pyproject.toml"
    project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
    has_opencv = importlib.util.find_spec("cv2") is not None
    try:
        print(*requirements(project, arguments.extras, arguments.onnxruntime, has_opencv), sep="\n")
    except KeyError as extra:
        known = ", ".join(project["optional-dependencies"])
        print(f"{file.name} has no extra {extra}; there are {known}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
