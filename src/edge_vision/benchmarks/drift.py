"""How often the check of a calibration is wrong: simulated streams of cameras that are well, and that have drifted.

python -m edge_vision.benchmarks.drift [--trials 200] [--drifted 25] [--only scene|board]

Scene: a stream is looked at every 2 s, 8 times; an alarm needs 10 s of blame. The drift, where there is one, is there
from the start. 150 features, a fifth not found in each look, matched to 0.1 px; a block of up to half of them moves by
itself, otherwise in each look. Board: judged once, by 12 random views, corners with 0.2 px of noise; the stored
calibration is itself a simulated one, from 20 views.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge_vision.calibration.assessment import assess
from edge_vision.calibration.boards import Board
from edge_vision.calibration.drift import Check, DriftWatch, Stored
from edge_vision.calibration.drift_board import BoardCheck
from edge_vision.calibration.drift_scene import judge_scene
from edge_vision.calibration.models import rotation_matrices
from edge_vision.calibration.projection import Camera
from edge_vision.calibration.report_data import as_record
from edge_vision.calibration.result import Calibration
from edge_vision.calibration.solving import solve
from edge_vision.calibration.verdict import judge
from edge_vision.calibration.views import View
from edge_vision.datatypes import NS_PER_S, CameraInfo

Floats = NDArray[np.float64]

PLUMB_BOB = Camera("plumb_bob", (1280, 720), np.array([900.0, 905, 650, 350, -0.3, 0.1, 1e-3, -1e-3, 0]))
FISHEYE = Camera("equidistant", (1280, 720), np.array([500.0, 500, 640, 360, 0.02, -0.01, 0.001, -0.0005]))
CHARUCO = Board("charuco", 9, 7, 0.025, 0.018, "DICT_4X4_100")
LOOKS, HOLD, PERIOD = {"scene": 8, "board": 1}, {"scene": 10.0, "board": 0.0}, 2.0
VIEWS = 12

CHANGES: dict[str, dict[str, float]] = {
    "none": {},
    "focal length +0.3 %": {"f": 0.003},
    "focal length +1 %": {"f": 0.01},
    "focal length +2 %": {"f": 0.02},
    "k1 +0.01": {"k1": 0.01},
    "centre +10 px": {"cx": 10},
    "turned by 0.1°": {"turn": 0.1},
    "turned by 0.3°": {"turn": 0.3},
    "turned by 3°": {"turn": 3},
    "rolled by 1°": {"roll": 1},
    "focal length +1 %, turned by 0.3°": {"f": 0.01, "turn": 0.3},
}
SCENE = ("none", *(each for each in CHANGES if each not in ("none", "focal length +2 %")))
BOARD = ("none", "focal length +0.3 %", "focal length +1 %", "focal length +2 %", "k1 +0.01")


def changed(camera: Camera, f: float = 0.0, cx: float = 0.0, k1: float = 0.0, **_: float) -> Camera:
    parameters = camera.parameters.copy()
    parameters[:2] *= 1 + f
    parameters[2] += cx
    parameters[4] += k1
    return replace(camera, parameters=parameters)


def info_of(camera: Camera) -> CameraInfo:
    p = camera.parameters
    K = np.array([[p[0], 0, p[2]], [0, p[1], p[3]], [0, 0, 1]])
    return CameraInfo(*camera.image_size, K, p[4:], distortion_model=camera.model)


# --- streams ----------------------------------------------------------------------------------------------------------


def scene_stream(
    camera: Camera, change: dict[str, float], rng: np.random.Generator, *, features: int = 150, noise: float = 0.1
) -> Callable[[], Check]:
    """What each look says, the camera being changed in this way."""
    width, height = camera.image_size
    points = rng.uniform([20, 20], [width - 20, height - 20], (features, 2))
    axis = np.append(rng.normal(size=2), 0.0)
    turn = np.radians(change.get("turn", 0.0)) * axis / np.linalg.norm(axis)
    R = rotation_matrices(turn + np.radians(change.get("roll", 0.0)) * np.array([0, 0, 1.0]))[0]
    exact = changed(camera, **change).project(camera.unproject(points) @ R.T)
    once = rng.normal(0, noise / 2, points.shape)  # errors of the reference stay
    stored = Stored.of(info_of(camera))
    moving = rng.uniform(0, 0.5)

    def look() -> Check:
        found = exact + once + rng.normal(0, noise, points.shape)
        middle = rng.uniform([width * 0.25, height * 0.25], [width * 0.75, height * 0.75])
        block = np.argsort(np.abs(points - middle).max(axis=1))[: int(moving * features)]
        found[block] += rng.normal(0, 10, 2)
        found[rng.random(features) < 0.2] = np.nan
        return judge_scene(stored, points, found, noise=noise / 2)

    return look


def random_view(camera: Camera, board: Board, noise: float, rng: np.random.Generator) -> View:
    size = np.array(camera.image_size)
    while True:
        ray = camera.unproject((rng.uniform(0.1, 0.9, 2) * size)[None])[0]
        R = rotation_matrices(rng.uniform(-0.7, 0.7, 3) * [1, 1, 0.5])[0]
        pixels = camera.project(board.points @ R.T + ray * rng.uniform(0.2, 0.45) - R @ board.points.mean(axis=0))
        inside = ((pixels >= 5) & (pixels <= size - 6)).all(axis=1)
        if inside.mean() >= 0.5:
            pixels = pixels[inside] + rng.normal(0, noise, (int(inside.sum()), 2))
            return View(f"{rng.integers(10**9)}", np.flatnonzero(inside), pixels, camera.image_size)


def calibrated(camera: Camera, board: Board, rng: np.random.Generator, views: int = 20, noise: float = 0.2) -> Stored:
    """A simulated calibration, as its file would have it."""
    found: Calibration = solve(
        [random_view(camera, board, noise, rng) for _ in range(views)], board.points, model=camera.model
    )
    assessment = assess(found, board)
    return Stored.of(found.camera_info(), as_record(assessment, judge(assessment)))


def board_stream(
    camera: Camera, stored: Stored, change: dict[str, float], rng: np.random.Generator, *, noise: float = 0.2
) -> Callable[[], Check]:
    """As `scene_stream`, of a board that was held in VIEWS ways."""
    now = changed(camera, **change)

    def look() -> Check:
        watched = BoardCheck(stored, CHARUCO)
        for _ in range(VIEWS):
            watched.add(random_view(now, CHARUCO, noise, rng))
        return watched.check()

    return look


def followed(look: Callable[[], Check], looks: int, hold: float) -> tuple[Check | None, Check, float]:
    """The first alarm of a stream, the last check, and the seconds until the alarm."""
    watch = DriftWatch(hold)
    alarm, seconds = None, float("nan")
    check = look()
    for index in range(looks):
        check = look() if index else check
        if watch.update(check, round(index * PERIOD * NS_PER_S)) is not None and alarm is None:
            alarm, seconds = watch.alarm, index * PERIOD
    return alarm, check, seconds


# --- the study --------------------------------------------------------------------------------------------------------


def study(what: str, trials: int, drifted: int, seed: int = 0) -> list[str]:
    """Rows of a Markdown table: ``trials`` streams of cameras that are well, ``drifted`` of each change."""
    rows = []
    for camera in (PLUMB_BOB, FISHEYE):
        rng = np.random.default_rng(seed)
        stored = [calibrated(camera, CHARUCO, rng) for _ in range(10)] if what == "board" else []
        for name in SCENE if what == "scene" else BOARD:
            alarms: Counter[str] = Counter()
            last: Counter[str] = Counter()
            began = time.perf_counter()
            count = drifted if CHANGES[name] else trials
            for trial in range(count):
                own = np.random.default_rng([seed, trial])
                if what == "scene":
                    look = scene_stream(camera, CHANGES[name], own)
                else:
                    look = board_stream(camera, stored[trial % len(stored)], CHANGES[name], own)
                alarm, check, _ = followed(look, LOOKS[what], HOLD[what])
                alarms[f"{alarm.verdict} ({alarm.cause})" if alarm else "none"] += 1
                last[check.verdict] += 1
            seconds = (time.perf_counter() - began) / count / LOOKS[what]
            told = ", ".join(f"{key} {n}" for key, n in alarms.most_common())
            ended = ", ".join(f"{key} {n}" for key, n in last.most_common())
            rows.append(f"| {what} | {camera.model} | {name} | {told} | {ended} | {seconds * 1e3:.0f} |")
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--drifted", type=int, default=25)
    parser.add_argument("--only", choices=("scene", "board"))
    arguments = parser.parse_args()
    print("| by | lens | change | alarms | last verdict | ms a look |\n|---|---|---|---|---|---|")
    for what in ("scene", "board"):
        if arguments.only in (None, what):
            study(what, arguments.trials, arguments.drifted)


if __name__ == "__main__":
    main()
