"""The figures of a candidate beside those of the reference, and whether they are within the limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import Detections, Tracks
from edge_vision.evaluation.detection import evaluate_detections
from edge_vision.verification.matching import Matches, at_least, match, total
from edge_vision.verification.running import Run
from edge_vision.verification.tolerances import Tolerance


@dataclass(frozen=True, slots=True)
class RawError:
    """Largest difference of an output over the frames compared; relative: as a share of the range that the reference's
    output spans over them. Infinite where the candidate's is not finite."""

    output: str
    absolute: float
    relative: float


@dataclass(frozen=True, slots=True)
class Figures:
    """A candidate against the reference, on the same frames.

    matches: of boxes (see `matching`), over all frames; frames: the same by frame; raw: by output, () where the outputs
    are lists of detections of other lengths; final: whether they are lists of detections. map50_95: COCO's, against the
    source's truth where it has one, and otherwise against the reference's boxes at the bundle's threshold (the
    reference then scores 1 by definition); reference_map: of the reference against the same truth. p50: milliseconds
    of the backend's call on this machine as it was, a hint only.
    """

    matches: Matches
    frames: tuple[Matches, ...] = field(repr=False)
    raw: tuple[RawError, ...]
    final: bool
    map50_95: float
    reference_map: float
    known_truth: bool
    p50: float

    @property
    def map_drop(self) -> float:
        """mAP50-95 lost against the reference; negative where the candidate is better."""
        return self.reference_map - self.map50_95

    @property
    def raw_error(self) -> float:
        """The largest relative one."""
        return max((error.relative for error in self.raw), default=0.0)

    @property
    def worst_frame(self) -> int:
        """Index of the frame with the most boxes without partner; of several, the one with the largest score
        difference."""
        order = [(one.missing + one.extra, one.crossed, one.score_difference) for one in self.frames]
        return max(range(len(order)), key=order.__getitem__)


@dataclass(frozen=True)
class Reference:
    """What candidates are compared with. threshold: score from which a detection counts; objects: of every frame, those
    that mAP is measured against; known_truth: whether they come from the source, not from `run` itself; output_names:
    of the raw outputs, for people; map50_95: of `run` against `objects`."""

    run: Run
    threshold: float
    objects: Sequence[Tracks | Detections]
    known_truth: bool
    map50_95: float
    output_names: Sequence[str] = ()


def reference_of(
    run: Run, threshold: float, truth: Sequence[Tracks] | None, output_names: Sequence[str] = ()
) -> Reference:
    """Raises ImportError without pycocotools, ValueError where neither truth nor run has an object."""
    objects = truth if truth is not None else [at_least(found, threshold) for found in run.detections]
    score = evaluate_detections(objects, run.detections).map50_95
    return Reference(run, threshold, objects, truth is not None, score, output_names)


def compare(reference: Reference, candidate: Run) -> Figures:
    """The figures of a run on the same frames. Raises ValueError where raw outputs are of other shapes."""
    theirs = reference.run
    frames = tuple(
        match(a, b, reference.threshold) for a, b in zip(theirs.detections, candidate.detections, strict=True)
    )
    return Figures(
        matches=total(frames),
        frames=frames,
        raw=raw_errors(theirs.raw, candidate.raw, theirs.final, reference.output_names),
        final=theirs.final,
        map50_95=evaluate_detections(reference.objects, candidate.detections).map50_95,
        reference_map=reference.map50_95,
        known_truth=reference.known_truth,
        p50=candidate.p50,
    )


def raw_errors(
    reference: Sequence[Sequence[NDArray]],
    candidate: Sequence[Sequence[NDArray]],
    final: bool = False,
    names: Sequence[str] = (),
) -> tuple[RawError, ...]:
    """The largest difference of each output over all frames, `[frame][output]` arrays of equal shapes.

    final: the outputs are lists of detections, whose rows (axis 1) two runtimes may put in another order: each column
    is then sorted first, and lists of other lengths are not compared, (). Raises ValueError where shapes differ.
    """
    worst: list[float] = []
    low: list[float] = []
    high: list[float] = []
    for theirs, ours in zip(reference, candidate, strict=True):
        expected, found = [array.shape for array in theirs], [array.shape for array in ours]
        if expected != found:
            if final:
                return ()
            raise ValueError(f"its outputs are of shape {_listed(found)}, the reference's of {_listed(expected)}")
        if not worst:
            worst, low, high = [0.0] * len(theirs), [np.inf] * len(theirs), [-np.inf] * len(theirs)
        for index, (a, b) in enumerate(zip(theirs, ours, strict=True)):
            if not a.size:
                continue
            a, b = a.astype(np.float64), b.astype(np.float64)
            if final and a.ndim >= 2:
                a, b = np.sort(a, 1), np.sort(b, 1)
            gap = float(np.abs(a - b).max())
            worst[index] = max(worst[index], gap if np.isfinite(gap) else np.inf)
            low[index], high[index] = min(low[index], float(a.min())), max(high[index], float(a.max()))
    named = [*names] if len(names) == len(worst) else [f"output {index}" for index in range(len(worst))]
    return tuple(
        RawError(name, gap, gap / max(b - a, 1e-6) if gap else 0.0)
        for name, gap, a, b in zip(named, worst, low, high, strict=True)
    )


def _listed(shapes: Sequence[tuple[int, ...]]) -> str:
    return ", ".join("x".join(map(str, shape)) for shape in shapes)


def out_of(figures: Figures, tolerance: Tolerance) -> str:
    """What is out of tolerance, for people; "" where nothing is.

    Raw errors of lists of detections are not judged: their tail is of boxes that are as good as none, which noise in
    the last digits exchanges.
    """
    problems = []
    if tolerance.matched is not None and figures.matches.share < tolerance.matched:
        share, needed = _percent(figures.matches.share, tolerance.matched), _percent(tolerance.matched)
        problems.append(f"matched {share} of the boxes ({needed} needed)")
    if tolerance.raw is not None and not figures.final and not figures.raw_error <= tolerance.raw:
        problems.append(f"raw outputs differ by {figures.raw_error:.1e} of their range ({tolerance.raw:.0e} allowed)")
    if tolerance.score is not None and figures.matches.score_difference > tolerance.score:
        problems.append(f"scores differ by up to {figures.matches.score_difference:.3f} ({tolerance.score:g} allowed)")
    if figures.known_truth and tolerance.map_drop is not None and figures.map_drop > tolerance.map_drop:
        problems.append(f"mAP falls by {figures.map_drop:.4f} ({tolerance.map_drop:g} allowed)")
    if not figures.known_truth and tolerance.agreement is not None and figures.map50_95 < tolerance.agreement:
        least = f"{tolerance.agreement:g} needed"
        problems.append(f"mAP against the reference's boxes is {figures.map50_95:.4f} ({least})")
    return "; ".join(problems)


def _percent(share: float, limit: float | None = None) -> str:
    """With one digit after the point, more where that would hide on which side of the limit it is."""
    for digits in (1, 2, 3):
        text = f"{share * 100:.{digits}f}"
        if limit is None or float(text) < limit * 100:
            break
    return f"{text.removesuffix('.0')} %"
