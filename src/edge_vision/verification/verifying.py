"""Every file of a bundle on every backend here, against fp32 ONNX Runtime on the same frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edge_vision.datatypes import Detections, Tracks
from edge_vision.inference.backends import backend
from edge_vision.inference.bundle import Bundle
from edge_vision.inference.errors import BackendError, InferenceError, ModelError
from edge_vision.inference.onnx_header import read_onnx_header
from edge_vision.inference.opening import Choice
from edge_vision.inference.profiles import choose_profile
from edge_vision.inference.records import Record, read_records, write_records
from edge_vision.verification.figures import Figures, Reference, compare, out_of, reference_of
from edge_vision.verification.frames import Frames
from edge_vision.verification.matching import IOU, MARGIN
from edge_vision.verification.plan import Absent, plan, reference_choice
from edge_vision.verification.running import NotOffered, run
from edge_vision.verification.tolerances import Tolerance, check_changes, tolerance_of

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"

Progress = Callable[[str, int, int], None]
"""Told (candidate, frames done since the last call, frames in all of the verification)."""


@dataclass(frozen=True)
class Row:
    """A candidate and what became of it.

    state: `passed`, `failed`, or `skipped` where the backend does not compute in this precision here, which proves
    nothing about the model; problem: why not passed; figures: None where it did not run to the end; detections:
    of every frame, for pictures.
    """

    choice: Choice
    state: str
    problem: str
    tolerance: Tolerance
    runtime_version: str = ""
    figures: Figures | None = None
    detections: tuple[Detections, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Report:
    """What `verify` found. reference: the candidate that the others are compared with; threshold: score from which a
    detection counts; written: where the records went, None where they were not wanted."""

    model: str
    reference: Choice
    threshold: float
    frames: Frames = field(repr=False)
    known_truth: bool
    boxes: int
    rows: tuple[Row, ...]
    absent: tuple[Absent, ...]
    expected: tuple[Detections, ...] = field(repr=False)
    written: Path | None = None

    @property
    def passed(self) -> bool:
        """Whether nothing that ran failed."""
        return all(row.state != FAILED for row in self.rows)


def verify(
    bundle: Bundle,
    frames: Frames,
    *,
    backends: Sequence[str] | None = None,
    devices: Sequence[str] | None = None,
    precisions: Sequence[str] | None = None,
    threads: int = 0,
    tolerance: Mapping[str, float] | None = None,
    write: bool = True,
    progress: Progress | None = None,
) -> Report:
    """Run every candidate on `frames`, compare it with fp32 ONNX Runtime on the CPU, and write down what passed.

    A candidate is a file of the bundle on a backend, device and precision (`plan.plan`); each has a process of its own.
    backends, devices, precisions: those wanted, None for all that are here. threads: 0 for the hardware profile's rule,
    which is what the engine takes. tolerance: changes of the limits (`tolerances.tolerance_of`). frames.truth is used
    where its classes are the model's. write: whether records are written (`inference.records`); those of candidates
    that were not run now stay. progress: see `Progress`.

    A candidate that cannot be opened, crashes or differs is a failed row. Raises InferenceError where the reference
    cannot be run, finds nothing in the frames, or a backend has no such name; ValueError for another name that there is
    not; ImportError without pycocotools; OSError where no process can be started or no record written.
    """
    if threads <= 0:
        profile, machine = choose_profile("auto")
        threads = profile.threads(machine.cores)
    check_changes(tolerance or {})
    first = reference_choice(bundle, threads)
    choices, absent = plan(bundle, threads, backends, devices, precisions)
    if not choices:
        listed = "; ".join(f"{one.backend}: {one.reason}" for one in absent)
        raise BackendError(f"there is nothing to verify: {listed}", "name other backends, devices or precisions")
    limits = [tolerance_of(choice.precision, choice.variant, tolerance) for choice in choices]
    count = len(frames.images)
    whole = (len(choices) + 1) * count

    def advance(choice: Choice, done: int) -> None:
        if progress:
            progress(str(choice), done, whole)

    reference = _reference(bundle, first, frames, lambda done: advance(first, done))
    rows = []
    for choice, limit in zip(choices, limits, strict=True):
        reached = 0

        def step(done: int, choice: Choice = choice) -> None:
            nonlocal reached
            reached += done
            advance(choice, done)

        advance(choice, 0)
        rows.append(_row(bundle, choice, limit, reference, frames, step))
        advance(choice, count - reached)
    report = Report(
        model=bundle.name,
        reference=first,
        threshold=reference.threshold,
        frames=frames,
        known_truth=reference.known_truth,
        boxes=sum(int((found.scores >= reference.threshold).sum()) for found in reference.run.detections),
        rows=tuple(rows),
        absent=tuple(absent),
        expected=reference.run.detections,
    )
    if not write:
        return report
    return replace(report, written=write_records(bundle, merge(bundle, [_record(row, report) for row in ran(report)])))


def ran(report: Report) -> list[Row]:
    """The rows that prove something, one way or the other."""
    return [row for row in report.rows if row.state != SKIPPED]


def _reference(bundle: Bundle, choice: Choice, frames: Frames, step: Callable[[int], None]) -> Reference:
    found = run(bundle, choice, frames.images, step)
    threshold = bundle.thresholds.score
    if not any((detections.scores >= threshold).any() for detections in found.detections):
        problem = f"{choice} finds nothing at score {threshold:g} or above in {len(frames.images)} frames"
        raise ModelError(bundle.file, f"{problem} of {frames.source}", "give frames that show what the model detects")
    labels = next((detections.labels for detections in found.detections if detections.labels), ())
    truth = frames.truth if frames.truth and _labels(frames.truth) == labels else None
    names = [output.name for output in choice.variant.outputs or read_onnx_header(choice.variant.path).outputs]
    return reference_of(found, threshold, truth, names)


def _labels(truth: Sequence[Tracks]) -> tuple[str, ...]:
    return next((one.labels for one in truth if one.labels), ())


def _row(
    bundle: Bundle,
    choice: Choice,
    limit: Tolerance,
    reference: Reference,
    frames: Frames,
    step: Callable[[int], None],
) -> Row:
    try:
        found = run(bundle, choice, frames.images, step)
        figures = compare(reference, found)
    except NotOffered as error:
        return Row(choice, SKIPPED, error.problem, limit, _version(choice))
    except InferenceError as error:
        return Row(choice, FAILED, error.problem, limit, _version(choice))
    except ValueError as error:
        return Row(choice, FAILED, str(error), limit, _version(choice))
    problem = out_of(figures, limit)
    state = FAILED if problem else PASSED
    return Row(choice, state, problem, limit, found.description.runtime_version, figures, found.detections)


def _version(choice: Choice) -> str:
    return backend(choice.backend).version()


def _record(row: Row, report: Report) -> Record:
    choice = row.choice
    return Record(
        backend=choice.backend,
        device=choice.device,
        precision=choice.precision,
        file=choice.variant.path.name,
        sha256=choice.variant.digest,
        runtime_version=row.runtime_version,
        passed=row.state == PASSED,
        problem=row.problem,
        tolerance=row.tolerance.as_dict(),
        measured=measured(row, report),
    )


def measured(row: Row, report: Report) -> dict[str, Any]:
    """The figures of a row as plain data; {} where it did not run. What is not finite is None."""
    figures = row.figures
    if figures is None:
        return {}
    matches = figures.matches
    return {
        "frames": len(report.frames.images),
        "source": portable(report.frames.source),
        "threads": row.choice.threads,
        "threshold": report.threshold,
        "iou": IOU,
        "margin": MARGIN,
        "boxes_reference": matches.reference,
        "boxes": matches.candidate,
        "matched": round(matches.share, 6),
        "matched_strict": round(matches.strict_share, 6),
        "missing": matches.missing,
        "extra": matches.extra,
        "crossed_threshold": matches.crossed,
        "score_difference": round(matches.score_difference, 6),
        "map_against": "truth" if figures.known_truth else "reference",
        "map50_95": round(figures.map50_95, 6),
        "map50_95_reference": round(figures.reference_map, 6),
        "map_drop": round(figures.map_drop, 6),
        "raw": {
            error.output: {"absolute": _finite(error.absolute), "relative": _finite(error.relative)}
            for error in figures.raw
        },
        "p50_ms": round(figures.p50, 3),
    }


def portable(source: str) -> str:
    """A URI as it is, of a file its name alone: records travel with the model."""
    return source if "://" in source else Path(source).name


def _finite(value: float) -> float | None:
    return float(f"{value:.3g}") if abs(value) != float("inf") else None


def merge(bundle: Bundle, records: Sequence[Record]) -> list[Record]:
    """`records`, and of those written before the ones of other candidates whose file is still the same."""
    try:
        before = read_records(bundle)
    except ModelError:
        before = ()  # not readable: written anew
    sums = {variant.path.name: variant.digest for variant in bundle.variants}
    new = {record.key for record in records}
    kept = [record for record in before if record.key not in new and sums.get(record.file) == record.sha256]
    return [*records, *kept]
