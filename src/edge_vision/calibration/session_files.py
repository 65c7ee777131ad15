"""What a session saves and loads: samples, the calibration's files and its report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from edge_vision.calibration.archive import (
    HEAD,
    Archive,
    ArchiveError,
    Sample,
    images_in,
    read_archive,
    write_head,
    write_sample,
)
from edge_vision.calibration.boards import Board
from edge_vision.calibration.detection import DetectionOptions, detect
from edge_vision.calibration.guidance import Suggestion
from edge_vision.calibration.report import CalibrationReport
from edge_vision.calibration.result_files import write_results
from edge_vision.calibration.session_state import Solution
from edge_vision.calibration.views import View
from edge_vision.datatypes import Outcome


@dataclass(frozen=True, eq=False)
class Results:
    """What `save` writes."""

    board: Board
    camera_name: str
    samples: Sequence[Sample]
    solution: Solution | None
    """the final one; None: samples alone"""
    next: Suggestion | None
    images: int
    """how many were looked at"""
    problem: str = ""
    """why there is no solution"""


@dataclass(frozen=True, eq=False)
class Loaded:
    samples: tuple[Sample, ...]
    message: str


def save(folder: str, given: Results, archive: str) -> Outcome:
    """archive: the folder in which samples are already. Refuses a folder that holds another run's samples."""
    target = Path(folder).expanduser()
    try:
        if not archive or target.resolve() != Path(archive).resolve():
            _write_samples(target, given)
        if given.solution is None:
            return Outcome(True, f"{len(given.samples)} samples are in {target}, but no calibration: {given.problem}")
        report = CalibrationReport(
            given.camera_name,
            str(target),
            given.board,
            given.solution.assessment,
            given.solution.verdict,
            (given.next,) if given.next is not None else (),
            tuple(sample.view for sample in given.samples),
            images=given.images,
            candidates=given.solution.candidates,
        )
        report = write_results(report, target)
    except ArchiveError as error:
        return Outcome(False, str(error))
    except OSError as error:
        return Outcome(
            False,
            f"cannot write {error.filename or target} ({error.strerror or error}): name a folder that may be written "
            f"to; the {len(given.samples)} samples are kept",
        )
    notes = "; ".join(("", *report.notes))
    return Outcome(True, f"{len(given.samples)} samples, calibration and report are in {target}{notes}")


def _write_samples(target: Path, given: Results) -> None:
    """Raises ArchiveError, OSError."""
    if (target / HEAD).exists():
        there = {sample.view.name: sample.view for sample in read_archive(target).samples}
        mine = {sample.view.name: sample.view for sample in given.samples}
        if any(name not in mine or not _alike(view, mine[name]) for name, view in there.items()):
            raise ArchiveError(f"{target} holds the samples of another run, which would be mixed: name another folder")
    write_head(target, given.board, given.camera_name)
    for sample in given.samples:
        write_sample(target, sample)


def load(folder: str, board: Board, present: Sequence[Sample]) -> Loaded | Outcome:
    """The samples of an archive, or the views in a folder's images, less those that are ``present``."""
    path = Path(folder).expanduser()
    if not path.is_dir():
        return Outcome(False, f"{path} is no folder: name that of an archive or of images")
    try:
        archive = _archive(path)
        if archive is None:
            images = images_in(path)
            if not images:
                return Outcome(False, f"{path} holds neither an archive nor images: name another folder")
            found, skipped = _detected(images, board)
        elif replace(archive.board, name=board.name) != board:
            return Outcome(
                False, f"the samples in {archive.folder} are of {archive.board}, this session's board is {board}"
            )
        else:
            found, skipped = list(archive.samples), []
    except ArchiveError as error:
        return Outcome(False, str(error))
    except OSError as error:
        return Outcome(False, f"cannot read {error.filename or path}: {error.strerror or error}")
    if not found:
        reason = f": {skipped[0]}" if skipped else ""
        return Outcome(False, f"no view of {board} in {path}{reason}")
    size = present[0].view.image_size if present else found[0].view.image_size
    fitting = [sample for sample in found if sample.view.image_size == size]
    if not fitting:
        width, height = found[0].view.image_size
        return Outcome(
            False, f"images in {path} are {width}x{height}, the samples {size[0]}x{size[1]}: reset, then load"
        )
    new = [sample for sample in fitting if not any(_alike(sample.view, other.view) for other in present)]
    message = f"{len(new)} views loaded from {archive.folder if archive is not None else path}"
    if len(fitting) < len(found):
        message += f", {len(found) - len(fitting)} of another size than {size[0]}x{size[1]} left out"
    if len(new) < len(fitting):
        message += f", {len(fitting) - len(new)} were there already"
    if skipped:
        message += f", {len(skipped)} images without a usable view ({skipped[0]})"
    return Loaded(_renamed(new, {sample.view.name for sample in present}), message)


def _archive(path: Path) -> Archive | None:
    if not (path / HEAD).is_file() and not any(path.glob(f"*/{HEAD}")):
        return None
    return read_archive(path)


def _detected(images: Sequence[Path], board: Board) -> tuple[list[Sample], list[str]]:
    """Samples, and why the other images gave none."""
    samples: list[Sample] = []
    skipped: list[str] = []
    for path in images:
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
        if image is None:
            skipped.append(f"{path.name}: not an image that OpenCV reads")
            continue
        options = DetectionOptions(thorough=True, explain=not samples and len(skipped) < 3)
        try:
            found = detect(image, board, options=options, name=path.stem)
        except ValueError as error:
            skipped.append(f"{path.name}: {error}")
            continue
        if isinstance(found, View):
            samples.append(Sample(found, image))
        else:
            skipped.append(f"{path.name}: {found.reason}")
    return samples, skipped


def _alike(view: View, other: View) -> bool:
    return np.array_equal(view.ids, other.ids) and np.array_equal(view.pixels, other.pixels)


def _renamed(samples: Sequence[Sample], taken: set[str]) -> tuple[Sample, ...]:
    result = []
    for sample in samples:
        name, number = sample.view.name, 2
        while name in taken:
            name, number = f"{sample.view.name}-{number}", number + 1
        taken.add(name)
        result.append(Sample(replace(sample.view, name=name), sample.image))
    return tuple(result)
