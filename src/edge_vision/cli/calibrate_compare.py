"""`edge_vision calibrate compare A B`: how many pixels two calibrations of one camera are apart, over the image."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

DESCRIPTION = (
    "Compares two calibrations of one camera (ROS YAML, Kalibr camchain, OpenCV FileStorage): by how many pixels they "
    "put the same direction apart, the turn of the camera between them taken out. Exit code 0: done; 1: the difference "
    "exceeds --at-most; 2: it cannot be done as asked."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", metavar="A", help="a calibration file; FILE:cam1 for another camera of a camchain")
    parser.add_argument("b", metavar="B", help="another, of the same image size")
    parser.add_argument(
        "--distance",
        type=_metres,
        default=float("inf"),
        metavar="M",
        help="m at which they are compared; a shift of the camera is taken out, too",
    )
    parser.add_argument("--no-turn", action="store_true", help="leave the turn of the camera in")
    parser.add_argument("--png", metavar="FILE", default=argparse.SUPPRESS, help="a picture of the difference")
    parser.add_argument("--html", metavar="FILE", default=argparse.SUPPRESS, help="a page with it")
    parser.add_argument("--json", metavar="FILE", default=argparse.SUPPRESS, help="figures and map; - for stdout")
    parser.add_argument(
        "--at-most", type=float, metavar="PX", default=argparse.SUPPRESS, help="exit with 1 where the RMS is more"
    )


def run(arguments: argparse.Namespace) -> int:
    from edge_vision.calibration import plots
    from edge_vision.calibration.camera_info_file import CameraInfoError
    from edge_vision.calibration.difference import difference
    from edge_vision.calibration.page import difference_page
    from edge_vision.calibration.report import difference_table, table_text
    from edge_vision.calibration.report_data import difference_dict
    from edge_vision.calibration.result import CalibrationError
    from edge_vision.whole_files import write_text

    wanted = {kind: getattr(arguments, kind, None) for kind in ("png", "html", "json")}
    if (wanted["png"] or wanted["html"]) and (missing := plots.problem()):
        return _fail(missing)
    try:
        a, b = _read(arguments.a), _read(arguments.b)
        found = difference(a, b, distance=arguments.distance, compensate=not arguments.no_turn)
    except (CameraInfoError, CalibrationError) as error:
        return _fail(str(error))
    names = (arguments.a, arguments.b)
    table = difference_table(found, a, b)
    content = json.dumps(difference_dict(found, names), indent=2, allow_nan=False)
    try:
        if wanted["json"] and wanted["json"] != "-":
            write_text(wanted["json"], content + "\n")
        if wanted["html"]:
            write_text(wanted["html"], difference_page(found, names, table))
        if wanted["png"]:
            plots.difference_png(found, f"{Path(names[0]).name} and {Path(names[1]).name}", wanted["png"])
    except OSError as error:
        return _fail(f"cannot write {error.filename}: {error.strerror}; name another place")
    print(content if wanted["json"] == "-" else table_text(table))
    return 1 if found.rms > getattr(arguments, "at_most", float("inf")) else 0


def _read(name: str):
    from edge_vision.calibration.files import read_calibration

    file, _, camera = name.rpartition(":")
    if file and camera.startswith("cam") and not Path(name).exists():
        return read_calibration(file, camera)
    return read_calibration(name)


def _metres(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"'{text}' must be a distance above 0 m, or inf")
    return value


def _fail(message: str) -> int:
    print(f"edge_vision calibrate compare: {message}", file=sys.stderr)
    return 2
