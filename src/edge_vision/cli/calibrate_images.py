"""`edge_vision calibrate images DIR|VIDEO --board B.yaml`: a camera's calibration from images, and how good it is."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge_vision.calibration.result import DISTORTION

if TYPE_CHECKING:
    from edge_vision.calibration.boards import Board
    from edge_vision.calibration.report import CalibrationReport
    from edge_vision.calibration.steps import LensOptions
    from edge_vision.calibration.views import View

DESCRIPTION = (
    "Calibrates a camera from images of a board: detects, solves, leaves out what does not fit, and says how good the "
    "result is and which view to add next. Exit code 0: done; 1: the verdict is below --at-least; 2: it cannot be done "
    "as asked."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", metavar="DIR|VIDEO", help="folder or pattern of images, a video, any other source")
    parser.add_argument(
        "--board",
        required=True,
        default=argparse.SUPPRESS,
        metavar="BOARD",
        help="the board's YAML (or Kalibr's target file), or the name of one in config/boards",
    )
    parser.add_argument(
        "--model",
        choices=("auto", *DISTORTION),
        default="auto",
        help="of the lens; auto: what projects views best that were not fitted",
    )
    parser.add_argument(
        "--terms",
        metavar="NAMES",
        default=argparse.SUPPRESS,
        help="coefficients to estimate, as k1,k2,p1,p2,k3; not told: those that the views determine",
    )
    parser.add_argument(
        "--bow", action="store_true", help="estimate how far the board is bent, also where it does not show"
    )
    parser.add_argument("--name", default="camera", help="the camera's, for the files")
    parser.add_argument(
        "-o", "--output", metavar="DIR", default=argparse.SUPPRESS, help="calibration files, report and plots go there"
    )
    parser.add_argument("--json", metavar="FILE", default=argparse.SUPPRESS, help="the report; - for stdout, no table")
    parser.add_argument("--markdown", metavar="FILE", default=argparse.SUPPRESS, help="the report as Markdown")
    parser.add_argument("--html", metavar="FILE", default=argparse.SUPPRESS, help="the report as a page with plots")
    parser.add_argument(
        "--every", type=_count, metavar="N", default=argparse.SUPPRESS, help="of a video, look at every Nth frame alone"
    )
    parser.add_argument("--frames", type=_count, metavar="N", default=argparse.SUPPRESS, help="stop after N images")
    parser.add_argument(
        "--most", type=_count, metavar="N", default=60, help="of a video, keep so many views, the most telling ones"
    )
    parser.add_argument(
        "--at-least",
        choices=("usable", "good"),
        default=argparse.SUPPRESS,
        help="exit with 1 where the verdict is less",
    )


def run(arguments: argparse.Namespace) -> int:
    from edge_vision.calibration import plots
    from edge_vision.calibration.boards import BoardError, find_board
    from edge_vision.calibration.report import text
    from edge_vision.calibration.result import CalibrationError
    from edge_vision.calibration.result_files import report_json
    from edge_vision.sources import SourceError

    wanted = {kind: getattr(arguments, kind, None) for kind in ("output", "json", "markdown", "html")}
    if (wanted["output"] or wanted["html"]) and (missing := plots.problem()):
        return _fail(missing)
    try:
        if hasattr(arguments, "terms") and arguments.model == "auto":
            return _fail("--terms are those of a model: give --model, too")
        _check_writable(wanted)
        report = calibrate(arguments, find_board(arguments.board))
    except (BoardError, SourceError, CalibrationError, OSError) as error:
        return _fail(str(error))
    try:
        report = _write(report, wanted)
    except OSError as error:
        return _fail(f"cannot write {error.filename}: {error.strerror}; name another place")
    if wanted["json"] == "-":
        print(report_json(report))
    else:
        print(text(report))
        if not wanted["output"]:
            print("\nnothing was kept: give -o DIR for the calibration's files, the report and its plots")
    least = {"usable": 1, "good": 2}.get(getattr(arguments, "at_least", ""), 0)
    return 1 if report.verdict.level < least else 0


def calibrate(arguments: argparse.Namespace, board: Board) -> CalibrationReport:
    """What the arguments ask for. Raises SourceError where there are no images, CalibrationError where they cannot be
    solved."""
    from tqdm import tqdm

    from edge_vision.calibration.assessment import assess
    from edge_vision.calibration.guidance import suggest
    from edge_vision.calibration.knowledge import known_from
    from edge_vision.calibration.report import CalibrationReport
    from edge_vision.calibration.result import CalibrationError
    from edge_vision.calibration.steps import solve_from_scratch, solver_like
    from edge_vision.calibration.verdict import judge

    started = time.perf_counter()
    views, rejected, is_video = look(arguments, board)
    images = len(views) + len(rejected)
    detected = time.perf_counter()
    if not views:
        raise CalibrationError(
            f"no view of the board ({board}) in {images} images of {arguments.images}",
            _telling([reason for _, reason in rejected]) or "give images that show it",
        )
    notes = []
    with tqdm(total=3, desc="solving", unit="step", file=sys.stderr, leave=False) as bar:
        lens = _lens(arguments)
        if is_video and len(views) > arguments.most:
            found, views = len(views), _most_telling(views, board, lens, arguments.most)
            notes.append(f"of {found} frames that show the board, the {len(views)} that tell most were kept")
        calibration, candidates = solve_from_scratch(views, board, lens)
        bar.update()
        bar.set_description("cross-validating")
        assessment = assess(calibration, board, solver_like(calibration, board))
        bar.update()
        bar.set_description("next views")
        suggestions = suggest(known_from(calibration, board), views, 3)
        bar.update()
    ended = time.perf_counter()
    report = CalibrationReport(
        arguments.name,
        arguments.images,
        board,
        assessment,
        judge(assessment),
        suggestions,
        tuple(views),
        tuple(rejected) if not is_video else (),
        images,
        candidates=candidates,
        notes=tuple(notes),
        seconds=(("detecting", detected - started), ("solving", ended - detected)),
    )
    return report


def look(arguments: argparse.Namespace, board: Board) -> tuple[list[View], list[tuple[str, str]], bool]:
    """The views in the images, the images without one and why, and whether it is a video. Raises SourceError."""
    from tqdm import tqdm

    from edge_vision.calibration.detection import DetectionOptions, detect
    from edge_vision.calibration.views import View
    from edge_vision.cli.quality_pictures import open_pictures

    views: list[View] = []
    rejected: list[tuple[str, str]] = []
    most = getattr(arguments, "frames", None)
    with open_pictures(arguments.images) as pictures:
        every = getattr(arguments, "every", 5 if pictures.timed else 1)
        # A frame of a video that is hard to find is followed by a better one; an image of a folder is not.
        options = DetectionOptions(thorough=not pictures.timed)
        explained = DetectionOptions(thorough=True, explain=True)
        total = None if pictures.length is None else -(-pictures.length // every)
        total = min((count for count in (total, most) if count is not None), default=None)
        with tqdm(total=total, desc="detecting", unit="image", file=sys.stderr) as bar:
            for index, shown in enumerate(pictures):
                if index % every:
                    continue
                if shown.frame is None:
                    rejected.append((shown.name, shown.problem))
                else:
                    # Why nothing is found is looked for only until something is: it is slow.
                    asked = explained if not views and len(rejected) < 3 else options
                    found = detect(shown.frame.image, board, options=asked, name=shown.name, stamp=shown.frame.stamp)
                    if isinstance(found, View):
                        views.append(found)
                    else:
                        rejected.append((shown.name, found.reason))
                bar.set_postfix(views=len(views), refresh=False)
                bar.update()
                if len(views) + len(rejected) == most:
                    break
        return views, rejected, pictures.timed


def _lens(arguments: argparse.Namespace) -> LensOptions:
    """The model and freedoms that the arguments ask for."""
    from edge_vision.calibration.steps import LensOptions

    terms = getattr(arguments, "terms", None)
    names = tuple(name.strip() for name in terms.split(",") if name.strip()) if terms is not None else None
    return LensOptions(arguments.model, names, True if arguments.bow else None)


def _most_telling(views: Sequence[View], board: Board, lens: LensOptions, most: int) -> list[View]:
    """The views of a video that tell most, in their order."""
    from edge_vision.calibration.guidance import choose_views
    from edge_vision.calibration.solving import solve
    from edge_vision.calibration.steps import solve_from_scratch

    spread = [views[round(i)] for i in _spaced(len(views), min(len(views), 40))]
    if lens.terms is None:
        return choose_views(solve_from_scratch(spread, board, lens)[0], board, views, most)
    return choose_views(solve(spread, board.points, model=lens.model), board, views, most)


def _spaced(count: int, wanted: int) -> list[float]:
    return [i * (count - 1) / max(wanted - 1, 1) for i in range(wanted)]


def _write(report: CalibrationReport, wanted: dict[str, str | None]) -> CalibrationReport:
    """The files asked for; the report with their names. Raises OSError."""
    from edge_vision.calibration.page import page
    from edge_vision.calibration.report import markdown
    from edge_vision.calibration.result_files import report_json, write_results
    from edge_vision.whole_files import write_text

    if wanted["output"]:
        report = write_results(report, Path(wanted["output"]).expanduser())
    if wanted["json"] and wanted["json"] != "-":
        write_text(wanted["json"], report_json(report) + "\n")
    if wanted["markdown"]:
        write_text(wanted["markdown"], markdown(report))
    if wanted["html"]:
        write_text(wanted["html"], page(report))
    return report


def _check_writable(wanted: dict[str, str | None]) -> None:
    """Before the work, not after it. Raises OSError."""
    for kind, file in wanted.items():
        if not file or file == "-":
            continue
        path = Path(file).expanduser()
        folder = path if kind == "output" else path.parent
        if kind == "output" and path.exists() and not path.is_dir():
            raise OSError(f"{path} is a file: name a folder for --output")
        while not folder.exists():
            folder = folder.parent
        if not os.access(folder, os.W_OK):
            raise OSError(f"cannot write {file}: the folder {folder} may not be written to; name another")


def _telling(reasons: Sequence[str]) -> str:
    """The reason that says most: the first few images were looked into (`look`), others only lack the board."""
    commonest = max(reasons, key=list(reasons).count, default="")
    return next((reason for reason in reasons[:3] if reason != commonest), commonest)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' must be a whole number above 0")
    return int(text)


def _fail(message: str) -> int:
    print(f"edge_vision calibrate images: {message}", file=sys.stderr)
    return 2
