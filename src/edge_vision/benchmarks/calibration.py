"""Simulated calibrations at the level of corners: are the solver's sigmas true? And what does a solve cost?

Cameras, boards, poses and noise are drawn at random from a seed; corners are projected, disturbed and solved. A camera
counts as recovered where every parameter lies inside three of the sigmas that the solver reports.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_vision.benchmarks.results import Check, Row, Section
from edge_vision.calibration.covariance import corner_pixels, lens_sigma
from edge_vision.calibration.models import bowed, project, rotation_matrices, unproject
from edge_vision.calibration.result import Calibration, CalibrationError
from edge_vision.calibration.solving import DEFAULT_TERMS, solve
from edge_vision.calibration.views import View
from edge_vision.evaluation.latency import summarize

Floats = NDArray[np.float64]

MODELS = ("plumb_bob", "equidistant")
INSIDE = 3.0  # sigmas
SHARE = 0.95  # of the runs must be inside
FACTOR = 1.3  # that the reported uncertainty of the image's corners may be off


@dataclass(frozen=True, slots=True)
class Settings:
    runs: int = 200
    seed: int = 1
    solves: int = 10
    """of each size, for the time"""


@dataclass(frozen=True, eq=False)
class Scene:
    """One simulated calibration: the truth, and what was seen."""

    model: str
    parameters: Floats
    bow: Floats
    image_size: tuple[int, int]
    points: Floats
    views: tuple[View, ...]
    noise: float


@dataclass(frozen=True, slots=True)
class Run:
    scene: str
    worst: float
    """sigmas, of the parameter that is furthest from its truth; infinite where there was no solution"""
    corner: float
    """the image's corners: distance from the truth over the sigma reported, root mean square (1 is right)"""
    removed: int


def simulate(
    generator: np.random.Generator,
    model: str,
    *,
    views: int = 20,
    noise: float = 0.2,
    bow: float = 0.0,
    columns: int = 9,
    rows: int = 7,
    spacing: float = 0.04,
) -> Scene:
    """A random camera of ``model`` that sees a board from ``views`` sides. ``noise`` px an axis, ``bow`` m in both."""
    size = [(640, 480), (1280, 720), (1920, 1200)][int(generator.integers(3))]
    parameters = _camera(generator, model, size)
    while not np.isfinite(unproject(model, parameters, corner_pixels(size))).all():  # no lens folds its image
        parameters = _camera(generator, model, size)
    row, column = np.indices((rows, columns)).reshape(2, -1)
    points = np.stack([column * spacing, row * spacing, np.zeros(row.size)], axis=1)
    deflection = bow * generator.choice([-1.0, 1.0], 2)
    bent = bowed(points, deflection)
    shown: list[View] = []
    while len(shown) < views:
        pixels = project(model, parameters, place_board(generator, model, parameters, size, bent))
        seen = np.all((pixels > -0.5) & (pixels < np.array(size) - 0.5), axis=1) & np.isfinite(pixels).all(axis=1)
        ids = np.flatnonzero(seen)
        if len(ids) < 0.6 * len(points) or np.ptp(pixels[ids], axis=0).min() < 0.12 * size[1]:
            continue
        found = pixels[ids] + noise * generator.standard_normal((len(ids), 2))
        shown.append(View(f"view {len(shown)}", ids.astype(np.int64), found, size))
    return Scene(model, parameters, deflection, size, points, tuple(shown), noise)


def _camera(generator: np.random.Generator, model: str, size: tuple[int, int]) -> Floats:
    draw = generator.uniform
    wide = model == "equidistant"
    focal = size[0] * (draw(0.28, 0.5) if wide else draw(0.6, 1.6))
    centre = (np.array(size) - 1) / 2 + draw(-0.03, 0.03, 2) * size[0]
    if wide:
        D = np.array([draw(-0.06, 0.06), draw(-0.02, 0.02), draw(-0.005, 0.005), draw(-0.001, 0.001)])
    else:
        # k2 as lenses have it: it takes back about a third of what k1 does at the edge of the image.
        edge = (0.6 * size[0] / focal) ** 2
        k1 = draw(-0.12, 0.05) / edge
        D = np.array([k1, -draw(0.1, 0.4) * k1 / edge, *draw(-0.001, 0.001, 2), 0.0])
    return np.concatenate([[focal * draw(0.99, 1.01), focal], centre, D])


def place_board(
    generator: np.random.Generator, model: str, parameters: Floats, size: tuple[int, int], points: Floats
) -> Floats:
    """The board's points in the camera: near, tilted by 10 to 50 degrees, its middle anywhere in the image."""
    draw = generator.uniform
    sight = unproject(model, parameters, [[draw(0.2, 0.8) * size[0], draw(0.2, 0.8) * size[1]]])[0]
    length = np.ptp(points[:, 0])
    distance = length * parameters[0] / (size[0] * draw(0.35, 0.8))
    direction, tilt = draw(0, 2 * np.pi), np.radians(draw(10, 50))
    tilted = rotation_matrices([tilt * np.cos(direction), tilt * np.sin(direction), 0.0])[0]
    rolled = rotation_matrices([0.0, 0.0, draw(-0.6, 0.6)])[0]
    towards = np.cross([0.0, 0.0, 1.0], sight)  # the board faces the camera also at the edge of a wide image
    sine = np.linalg.norm(towards)
    facing = rotation_matrices(towards / max(sine, 1e-12) * np.arctan2(sine, sight[2]))[0]
    centred = points - points.mean(axis=0)
    placed: Floats = centred @ (facing @ tilted @ rolled).T + distance * sight
    return placed


def check(scene: Scene, calibration: Calibration, label: str) -> Run:
    """How far a solution is from the truth, in the sigmas that it reports."""
    names = calibration.parameter_names
    truth = np.concatenate([scene.parameters, scene.bow[: len(names) - len(scene.parameters)]])
    values = dict(zip(names, calibration.parameters - truth, strict=True))
    worst = max(abs(values[name]) / max(sigma, 1e-300) for name, sigma in calibration.sigmas.items())
    pixels = corner_pixels(scene.image_size, 0.02)
    error = projection_error(scene, calibration, pixels)
    squares = 0.5 * np.sum(error**2, axis=1) / lens_sigma(calibration, pixels) ** 2
    squares = squares[np.isfinite(squares)]  # what the solution has no ray for has no uncertainty either
    corner = np.sqrt(np.mean(squares)) if len(squares) else np.nan
    return Run(label, float(worst), float(corner), len(calibration.outliers) + len(calibration.removed))


def projection_error(scene: Scene, calibration: Calibration, pixels: Floats) -> Floats:
    """(N, 2) px: the solution's projection less the truth's, after the rotation that fits best over the image."""
    w, h = scene.image_size
    x, y = np.meshgrid(np.linspace(0, w - 1, 13), np.linspace(0, h - 1, 9))
    grid = np.stack([x.ravel(), y.ravel()], axis=1)
    parameters = np.concatenate([[calibration.K[i, j] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2))], calibration.D])

    def off(at: Floats, turn: Floats) -> Floats:
        rays = unproject(scene.model, scene.parameters, at) @ rotation_matrices(turn)[0].T
        return project(calibration.model, parameters, rays) - at

    turn = np.zeros(3)
    for _ in range(3):  # Gauss-Newton
        base = off(grid, turn).ravel()
        slopes = np.stack([(off(grid, turn + 1e-6 * axis).ravel() - base) / 1e-6 for axis in np.eye(3)], axis=1)
        good = np.isfinite(base) & np.isfinite(slopes).all(axis=1)
        turn = turn - np.linalg.lstsq(slopes[good], base[good], rcond=None)[0]
    return off(pixels, turn)


def study(runs: int, seed: int, done: Callable[[int], object] = lambda _: None) -> list[Run]:
    """Simulated calibrations in turns of model and bow, 15 to 30 views, noise 0.1 to 0.5 px."""
    results = []
    for index in range(runs):
        generator = np.random.default_rng([seed, index])
        model, bent = MODELS[index % 2], bool(index // 2 % 2)
        label = f"{model}{', 1 mm bow' if bent else ''}"
        scene = simulate(
            generator,
            model,
            views=int(generator.integers(15, 31)),
            noise=float(generator.uniform(0.1, 0.5)),
            bow=0.001 if bent else 0.0,
        )
        try:
            found = solve(scene.views, scene.points, model=model, terms=DEFAULT_TERMS[model], bow=bent)
            results.append(check(scene, found, label))
        except CalibrationError:
            results.append(Run(label, float("inf"), float("nan"), 0))
        done(1)
    return results


def sigmas(settings: Settings, done: Callable[[int], object] = lambda _: None) -> Section:
    """The study of the sigmas. ``done`` is told of each run."""
    results = study(settings.runs, settings.seed, done)
    checks, notes = [], []
    for label in sorted({run.scene for run in results}):
        own = [run for run in results if run.scene == label]
        outside = sum(not run.worst <= INSIDE for run in own)
        corner = float(np.sqrt(np.nanmean([run.corner**2 for run in own])))
        checks.append(Check(f"{label}: runs with a parameter beyond 3 sigma", outside / len(own), 1 - SHARE))
        checks.append(Check(f"{label}: corner uncertainty off by", max(corner, 1 / corner), FACTOR, " times"))
        removed = sum(run.removed for run in own)
        notes.append(f"{label}: {len(own)} runs, {outside} beyond, corners {corner:.2f} sigma, {removed} removed")
    return Section(f"{settings.runs} simulated calibrations", (), checks=tuple(checks), notes=tuple(notes))


def times(settings: Settings, done: Callable[[int], object] = lambda _: None) -> Section:
    """What cold solves of 13 and of 186 views cost."""
    rows = []
    scenes = {
        "13 views of 54 corners, plumb_bob": simulate(np.random.default_rng(2), "plumb_bob", views=13, rows=6),
        "186 views of 100 corners, equidistant": simulate(
            np.random.default_rng(3), "equidistant", views=186, columns=10, rows=10
        ),
    }
    for name, scene in scenes.items():
        taken = []
        for _ in range(settings.solves):
            start = time.perf_counter_ns()
            solve(scene.views, scene.points, model=scene.model)
            taken.append(time.perf_counter_ns() - start)
            done(1)
        rows.append(Row(name, summarize(taken)))
    limits = (100.0, 2000.0)
    checks = [Check(f"{row.name}, p50", row.latency.p50, limit, " ms") for row, limit in zip(rows, limits, strict=True)]
    return Section("A cold solve", tuple(rows), checks=tuple(checks))
