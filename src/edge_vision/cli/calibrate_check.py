"""`edge_vision calibrate check SOURCE --calibration cam.yaml`: is the stored calibration still that of the camera?"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edge_vision.calibration.drift import Check, Limits, Stored

DESCRIPTION = (
    "Is the stored calibration still that of the camera? Told by a board that is shown (--board), or by a scene that "
    "stands still, compared with how it was when the camera was mounted (--take-reference then, --reference now). Exit "
    "code 0: valid; 1: doubtful or drifted; 2: it cannot be told, or not be done as asked."
)

_LOOKS = {"board": 60, "reference": 5, "take_reference": 5}
_EVERY = {"board": 5, "reference": 5, "take_reference": 15}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="folder or pattern of images, a video, any other source")
    parser.add_argument(
        "--calibration",
        required=True,
        default=argparse.SUPPRESS,
        metavar="FILE",
        help="ROS YAML, Kalibr camchain (FILE:cam1 for another of its cameras) or OpenCV FileStorage",
    )
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument(
        "--board", metavar="BOARD", default=argparse.SUPPRESS, help="YAML or name of a board that is shown"
    )
    how.add_argument("--reference", metavar="FILE", default=argparse.SUPPRESS, help="the scene as it was, .npz")
    how.add_argument(
        "--take-reference", metavar="FILE", default=argparse.SUPPRESS, help="keep the scene as it is now, .npz"
    )
    parser.add_argument(
        "--limit", type=_pixels, metavar="PX", default=1.0, help="RMS shift by the lens from which it has drifted"
    )
    parser.add_argument(
        "--limit-mount", type=_pixels, metavar="PX", default=2.0, help="the same of the camera's turn on its mount"
    )
    parser.add_argument(
        "--frames", type=_count, metavar="N", default=argparse.SUPPRESS, help="images looked at; board 60, else 5"
    )
    parser.add_argument(
        "--every", type=_count, metavar="N", default=argparse.SUPPRESS, help="of a video, every Nth frame; 5, or 15"
    )
    parser.add_argument("--json", metavar="FILE", default=argparse.SUPPRESS, help="the figures; - for stdout, no table")
    parser.add_argument("--png", metavar="FILE", default=argparse.SUPPRESS, help="a picture of the shift")


def run(arguments: argparse.Namespace) -> int:
    from edge_vision.calibration.boards import BoardError
    from edge_vision.calibration.camera_info_file import CameraInfoError
    from edge_vision.calibration.drift import Limits
    from edge_vision.calibration.result import CalibrationError
    from edge_vision.sources import SourceError

    how = next(each for each in ("board", "reference", "take_reference") if hasattr(arguments, each))
    try:
        stored = _read(arguments.calibration)
        if how == "take_reference":
            return _take(arguments, stored)
        limits = Limits(arguments.limit, arguments.limit_mount)
        check, image = (_by_board if how == "board" else _by_scene)(arguments, stored, limits)
    except (BoardError, CameraInfoError, CalibrationError, SourceError, OSError) as error:
        return _fail(str(error))
    wanted = getattr(arguments, "json", None)
    content = json.dumps(as_dict(check, arguments), indent=2, allow_nan=False)
    try:
        if wanted and wanted != "-":
            from edge_vision.whole_files import write_text

            write_text(wanted, content + "\n")
        if getattr(arguments, "png", None):
            _picture(arguments.png, image, check)
    except OSError as error:
        return _fail(f"cannot write {error.filename}: {error.strerror}; name another place")
    print(content if wanted == "-" else _text(check))
    return {"valid": 0, "unknown": 2}.get(check.verdict, 1)


def _read(name: str) -> Stored:
    from edge_vision.calibration.drift import read_stored

    file, _, camera = name.rpartition(":")
    if file and camera.startswith("cam") and not Path(name).exists():
        return read_stored(file, camera)
    return read_stored(name)


# --- the two ways -----------------------------------------------------------------------------------------------------


def _by_board(arguments: argparse.Namespace, stored: Stored, limits: Limits) -> tuple[Check, NDArray[np.uint8]]:
    from edge_vision.calibration.boards import find_board
    from edge_vision.calibration.detection import detect
    from edge_vision.calibration.drift import Check
    from edge_vision.calibration.drift_board import BoardCheck
    from edge_vision.calibration.views import View

    board = find_board(arguments.board)
    watched = BoardCheck(stored, board, limits, most=_LOOKS["board"])
    reasons: list[str] = []
    shown = None
    images = _images(arguments, "board")
    for image in images:
        found = detect(image, board)
        if isinstance(found, View):
            watched.add(found)
            shown = image
            if watched.size is not None:
                return watched.check(), image
        else:
            reasons.append(found.reason)
    if shown is None:
        why = max(reasons, key=reasons.count)
        return Check("unknown", "views", f"the board ({board}) was seen in none of {len(images)} images", why), images[
            0
        ]
    return watched.check(), shown


def _by_scene(arguments: argparse.Namespace, stored: Stored, limits: Limits) -> tuple[Check, NDArray[np.uint8]]:
    from edge_vision.calibration.drift_features import SceneCheck, read_reference

    scene = SceneCheck(stored, read_reference(arguments.reference), limits)
    images = _images(arguments, "reference")
    return scene.check(*images), images[-1]


def _take(arguments: argparse.Namespace, stored: Stored) -> int:
    from edge_vision.calibration.camera_info_file import size_mismatch
    from edge_vision.calibration.drift_features import take_reference, write_reference
    from edge_vision.calibration.result import CalibrationError

    images = _images(arguments, "take_reference")
    mismatch = size_mismatch(stored.info, images[0].shape[1], images[0].shape[0])
    if mismatch:
        raise CalibrationError(mismatch)
    reference = take_reference(images, camera=stored.info.camera_name)
    try:
        write_reference(arguments.take_reference, reference)
    except OSError as error:
        return _fail(f"cannot write {arguments.take_reference}: {error.strerror}; name another place")
    print(
        f"{arguments.take_reference}: {len(reference.points)} features of {len(images)} images; "
        f"they tremble by {reference.noise:.2f} px"
    )
    if len(images) == 1:
        print("of one image: what moves could not be told from what stays; better give some, seconds apart")
    return 0


def _images(arguments: argparse.Namespace, how: str) -> list[NDArray[np.uint8]]:
    """The grey images that the arguments ask for. Raises SourceError where there is none."""
    from tqdm import tqdm

    from edge_vision.calibration.detection import to_gray
    from edge_vision.cli.quality_pictures import open_pictures
    from edge_vision.sources import SourceError

    most = getattr(arguments, "frames", _LOOKS[how])
    images: list[NDArray[np.uint8]] = []
    problem = ""
    with open_pictures(arguments.source) as pictures:
        every = getattr(arguments, "every", _EVERY[how] if pictures.timed else 1)
        total = most if pictures.length is None else min(most, -(-pictures.length // every))
        with tqdm(total=total, desc="looking", unit="image", file=sys.stderr, leave=False) as bar:
            for index, shown in enumerate(pictures):
                if index % every:
                    continue
                if shown.frame is None:
                    problem = shown.problem
                    continue
                images.append(to_gray(shown.frame.image))
                bar.update()
                if len(images) == most:
                    break
    if not images:
        raise SourceError(problem or f"{arguments.source} has no images; name another source")
    return images


# --- what is told -----------------------------------------------------------------------------------------------------


def as_dict(check: Check, arguments: argparse.Namespace) -> dict[str, Any]:
    """For JSON: None where a figure is not known."""

    def number(value: float) -> float | None:
        return float(value) if math.isfinite(value) else None

    return {
        "verdict": check.verdict,
        "cause": check.cause,
        "reason": check.reason,
        "remedy": check.remedy,
        "source": arguments.source,
        "calibration": arguments.calibration,
        "image_size": list(check.image_size),
        "figures": [
            {
                "name": each.name,
                "value": number(each.value),
                "sigma": number(each.sigma),
                "limit": number(each.limit),
                "unit": each.unit,
            }
            for each in check.figures
        ],
    }


def _text(check: Check) -> str:
    from edge_vision.calibration.report import table_text

    lines = [check.text]
    if check.figures:
        rows = [[figure.name, figure.text] for figure in check.figures]
        lines += ["", table_text((["figure", "value"], rows))]
    return "\n".join(lines)


def _picture(name: str, image: NDArray[np.uint8], check: Check) -> None:
    import cv2

    from edge_vision.calibration.drift_picture import draw_check

    good, data = cv2.imencode(".png", draw_check(image, check))
    assert good
    path = Path(name).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.tobytes())


def _pixels(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' must be a number of pixels above 0")
    return value


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' must be a whole number above 0")
    return int(text)


def _fail(message: str) -> int:
    print(f"edge_vision calibrate check: {message}", file=sys.stderr)
    return 2
