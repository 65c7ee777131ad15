"""What it takes to find a board and to decide whether to keep the view, beside OpenCV's own detectors, in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.benchmarks.board_scenes import BOARDS, SIZE, BoardScene, scenes
from edge_vision.benchmarks.results import Check, Row, Section
from edge_vision.calibration.boards import Board
from edge_vision.calibration.detection import detect
from edge_vision.calibration.guidance import is_worth_adding
from edge_vision.calibration.knowledge import known_before
from edge_vision.calibration.opencv_aruco import available
from edge_vision.calibration.views import View
from edge_vision.evaluation.latency import summarize

Floats = NDArray[np.float64]
Finder = Callable[[NDArray[np.uint8]], Floats]

MOST_MS = 40.0  # a frame where a board is in view, on one core
MOST_RMS = {"circles": 0.2, "acircles": 0.2}  # px; perspective moves the centres of circles
MOST_RMS_CORNERS = 0.1
SEEDS = 2
VIEWS = 5  # kinds of view that all boards have; partial ones one more
_ASTRAY = 3.0  # px: farther from every true point, it is none
_CRITERIA = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_MAX_ITER, 30, 0.01)


def work(rounds: int) -> int:
    return sum((VIEWS + board.partial) * SEEDS * rounds for board in _boards(tuple(BOARDS)).values())


def detection_section(
    rounds: int,
    done: Callable[[int], object] = lambda _: None,
    *,
    kinds: Sequence[str] = tuple(BOARDS),
    seeds: int = SEEDS,
) -> Section:
    """p50 of `detect` and `is_worth_adding`, and of OpenCV's detector with its refinement, each on one thread.

    Processor time of the thread, so that what else runs does not count. Sets OpenCV's threads to one while it runs.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        rows: list[Row] = []
        checks: list[Check] = []
        notes: list[str] = []
        for kind, board in _boards(kinds).items():
            _measure(kind, board, seeds, rounds, done, rows, checks, notes)
    finally:
        cv2.setNumThreads(threads)
    title = f"Detection: a board in view, {SIZE[0]}x{SIZE[1]}, one thread, its processor time"
    return Section(title, tuple(rows), checks=tuple(checks), notes=tuple(notes))


def _boards(kinds: Sequence[str]) -> dict[str, Board]:
    return {kind: board for kind, board in BOARDS.items() if kind in kinds and (available() or not board.partial)}


def _measure(
    kind: str,
    board: Board,
    seeds: int,
    rounds: int,
    done: Callable[[int], object],
    rows: list[Row],
    checks: list[Check],
    notes: list[str],
) -> None:
    known, theirs, label = known_before(SIZE, board), *_opencv(board)
    taken: dict[str, list[int]] = {}
    their_time: list[int] = []
    ours: list[Floats] = []  # px off, a view each; empty: not found
    other: list[Floats] = []
    for scene in scenes(board, seeds):
        truth = scene.pixels(board.points)
        for number in range(rounds):
            start = time.thread_time_ns()
            view = detect(scene.image, board)
            if isinstance(view, View):
                is_worth_adding(known, view)
            middle = time.thread_time_ns()
            found = theirs(scene.image)
            end = time.thread_time_ns()
            done(1)
            if number or rounds == 1:  # the first is of a cold cache
                taken.setdefault(scene.name, []).append(middle - start)
                their_time.append(end - middle)
        seen = view.pixels - truth[view.ids] if isinstance(view, View) else np.zeros((0, 2))
        ours.append(np.hypot(*seen.T))
        other.append(_nearest(found, scene, board))
    times = [value for values in taken.values() for value in values]
    rows += [Row(f"{kind}, ours with the accept decision", summarize(times)), Row(label, summarize(their_time))]
    slowest = max(taken, key=lambda name: float(np.median(taken[name])))
    missing, rms = 1 - np.mean([len(part) > 0 for part in ours]), _rms(ours)
    checks += [
        Check(f"{kind}: p50", rows[-2].latency.p50, MOST_MS, " ms"),
        Check(f"{kind}: share of the views not found", float(missing), 0.0),
        Check(f"{kind}: RMS from the truth", rms, MOST_RMS.get(kind, MOST_RMS_CORNERS), " px"),
    ]
    for name, parts in ((f"{kind}, ours", ours), (label, other)):
        share = np.mean([len(part) > 0 for part in parts])
        astray = sum(int((part > _ASTRAY).sum()) for part in parts)
        count = sum(len(part) for part in parts)
        notes.append(f"{name}: found in {share:.0%}, {count} corners, RMS {_rms(parts):.3f} px, {astray} astray")
    notes.append(f"{kind}: slowest {slowest}, p50 {np.median(taken[slowest]) / 1e6:.1f} ms")


def _rms(parts: list[Floats]) -> float:
    off = np.concatenate(parts)
    off = off[off <= _ASTRAY]
    return float(np.sqrt(np.mean(off**2))) if len(off) else float("nan")


def _nearest(found: Floats, scene: BoardScene, board: Board) -> Floats:
    """(N,) px from the true point that is nearest: OpenCV may begin to number at another corner of a chessboard."""
    truth = scene.pixels(board.points)
    return np.hypot(*(found[:, None] - truth[None]).transpose(2, 0, 1)).min(1) if len(found) else np.zeros(0)


def _opencv(board: Board) -> tuple[Finder, str]:
    """OpenCV's own detector of such boards as it is used, with refinement, and its name."""
    pattern = (board.columns, board.rows)
    if board.kind == "chessboard":
        flags = cv2.CALIB_CB_ADAPTIVE_THRESH | cv2.CALIB_CB_NORMALIZE_IMAGE | cv2.CALIB_CB_FAST_CHECK

        def chessboard(image: NDArray[np.uint8]) -> Floats:
            found, corners = cv2.findChessboardCorners(image, pattern, flags=flags)
            return _points(cv2.cornerSubPix(image, corners, (5, 5), (-1, -1), _CRITERIA) if found else None)

        return chessboard, "cv2.findChessboardCorners, cornerSubPix"
    if board.kind in ("circles", "acircles"):
        grid = cv2.CALIB_CB_SYMMETRIC_GRID if board.kind == "circles" else cv2.CALIB_CB_ASYMMETRIC_GRID

        def circles(image: NDArray[np.uint8]) -> Floats:
            found, centres = cv2.findCirclesGrid(image, pattern, flags=grid)
            return _points(centres if found else None)

        return circles, f"cv2.findCirclesGrid, {'symmetric' if board.kind == 'circles' else 'asymmetric'}"
    aruco: Any = cv2.aruco
    table = aruco.getPredefinedDictionary(getattr(aruco, board.dictionary))
    modern = hasattr(aruco, "ArucoDetector")
    options = aruco.DetectorParameters() if modern else aruco.DetectorParameters_create()
    if board.kind == "charuco":
        if modern:
            drawn = aruco.CharucoBoard(pattern, board.spacing, board.marker, table)
            charuco = aruco.CharucoDetector(drawn)
            return lambda image: _points(charuco.detectBoard(image)[0]), "cv2.aruco.CharucoDetector"
        drawn = aruco.CharucoBoard_create(*pattern, board.spacing, board.marker, table)

        def interpolated(image: NDArray[np.uint8]) -> Floats:
            corners, ids, _ = aruco.detectMarkers(image, table, parameters=options)
            return _points(aruco.interpolateCornersCharuco(corners, ids, image, drawn)[1] if len(corners) else None)

        return interpolated, "cv2.aruco.interpolateCornersCharuco"
    options.markerBorderBits = board.border
    options.cornerRefinementMethod = aruco.CORNER_REFINE_SUBPIX
    if modern:
        detector = aruco.ArucoDetector(table, options)
        return lambda image: _points(detector.detectMarkers(image)[0]), "cv2.aruco.ArucoDetector, subpixel"
    return (
        lambda image: _points(aruco.detectMarkers(image, table, parameters=options)[0]),
        "cv2.aruco.detectMarkers, subpixel",
    )


def _points(found: Any) -> Floats:
    """(N, 2), none where OpenCV found none"""
    return np.zeros((0, 2)) if found is None or not len(found) else np.asarray(found, np.float64).reshape(-1, 2)
