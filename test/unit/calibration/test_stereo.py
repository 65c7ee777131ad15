"""Pairs and rigs: places inside their sigmas, rectified rows, pairs that were not taken at the same time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge_vision.benchmarks.calibration import place_board
from edge_vision.calibration.models import project, rotation_matrices, rotation_vectors, unproject
from edge_vision.calibration.result import CalibrationError
from edge_vision.calibration.solving import solve
from edge_vision.calibration.stereo import solve_rig, solve_stereo
from edge_vision.calibration.stereo_geometry import epipolar_distances, rectify
from edge_vision.calibration.views import View

SIZE = (640, 480)
row, column = np.indices((6, 9)).reshape(2, -1)
POINTS = np.stack([column * 0.03, row * 0.03, np.zeros(54)], axis=1)
CAMERAS = {
    "plumb_bob": (
        np.array([520.0, 525.0, 318.0, 242.0, -0.28, 0.09, 0.001, -0.0005, 0.0]),
        np.array([540.0, 538.0, 325.0, 236.0, -0.30, 0.10, -0.0005, 0.0004, 0.0]),
    ),
    "equidistant": (
        np.array([260.0, 262.5, 318.0, 242.0, 0.02, -0.01, 0.003, -0.001]),
        np.array([270.0, 269.0, 325.0, 236.0, 0.01, -0.008, 0.002, -0.0008]),
    ),
}
R = rotation_matrices([0.01, -0.05, 0.02])[0]
T = np.array([-0.1, 0.002, 0.001])


def pairs_of(model: str, count: int = 12, seed: int = 3, noise: float = 0.2) -> list[tuple[View, View]]:
    generator = np.random.default_rng(seed)
    pairs: list[tuple[View, View]] = []
    while len(pairs) < count:
        placed = place_board(generator, model, CAMERAS[model][0], SIZE, POINTS)
        seen = []
        for name, parameters, xyz in (
            ("left", CAMERAS[model][0], placed),
            ("right", CAMERAS[model][1], placed @ R.T + T),
        ):
            pixels = project(model, parameters, xyz)
            inside = np.all((pixels > 0) & (pixels < np.array(SIZE) - 1.0), axis=1)
            found = pixels[inside] + noise * generator.standard_normal((int(inside.sum()), 2))
            seen.append(View(f"{name} {len(pairs)}", np.flatnonzero(inside), found, SIZE))
        if min(len(view) for view in seen) >= 30:
            pairs.append((seen[0], seen[1]))
    return pairs


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("model", CAMERAS)
def test_a_pair_is_found_inside_its_sigmas(model: str, joint: bool) -> None:
    pairs = pairs_of(model)
    first, second = (solve([pair[side] for pair in pairs], POINTS, model=model) for side in (0, 1))
    found = solve_stereo(pairs, POINTS, first, second, joint=joint)
    off = np.concatenate([rotation_vectors(found.R @ R.T)[0], found.T - T])
    assert np.abs(off / np.sqrt(np.diag(found.covariance))).max() < 4.0
    assert abs(found.baseline - np.linalg.norm(T)) < 4 * found.baseline_sigma
    assert found.baseline_sigma < 3e-4
    assert len(found.pairs) == 12
    assert 0.2 < found.rms < 0.35  # 0.2 px an axis, a little more where two cameras must agree
    assert 0.2 < found.epipolar_rms < 0.35
    if joint:
        assert abs(found.first.K[0, 0] - CAMERAS[model][0][0]) < 4 * found.first.sigmas["fx"]
        assert found.first.sigmas["fx"] <= first.sigmas["fx"] * 1.1
    else:
        assert found.first is first


@pytest.mark.parametrize("model", CAMERAS)
def test_rectified_rows_see_the_same(model: str) -> None:
    pairs = pairs_of(model, noise=0.0)
    first, second = (solve([pair[side] for pair in pairs], POINTS, model=model) for side in (0, 1))
    found = solve_stereo(pairs, POINTS, first, second)
    rectification = rectify(found)
    rows = []
    for side, camera in enumerate((found.first, found.second)):
        rays = unproject(model, camera.parameters, pairs[0][side].pixels) @ rectification.R[side].T
        pixels = rays @ rectification.P[side][:, :3].T
        rows.append(dict(zip(pairs[0][side].ids.tolist(), pixels[:, 1] / pixels[:, 2], strict=True)))
    both = rows[0].keys() & rows[1].keys()
    assert len(both) > 20
    assert max(abs(rows[0][i] - rows[1][i]) for i in both) < 0.02
    P = rectification.P[1]
    assert -P[0, 3] / P[0, 0] == pytest.approx(np.linalg.norm(T), rel=1e-3)
    assert rectification.infos[1].P[0, 3] == P[0, 3]
    assert rectification.infos[0].distortion_model == model


def test_a_pair_not_taken_at_the_same_time_is_removed() -> None:
    pairs = pairs_of("plumb_bob")
    later = pairs_of("plumb_bob", seed=9)
    pairs[4] = (pairs[4][0], replace(later[2][1], name="right 4"))
    first, second = (solve([pair[side] for pair in pairs], POINTS) for side in (0, 1))
    found = solve_stereo(pairs, POINTS, first, second)
    assert "left 4 + right 4" not in found.pairs
    assert any("left 4 + right 4" in view.name and "RMS" in view.reason for view in found.removed)
    assert abs(found.baseline - np.linalg.norm(T)) < 5 * found.baseline_sigma


def test_a_rig_is_linked_through_the_camera_that_both_others_share_views_with() -> None:
    pairs = pairs_of("plumb_bob", 20, noise=0.1)
    cameras = {"a": {}, "b": {}, "c": {}}  # type: dict[str, dict[str, View]]
    for index, (left, right) in enumerate(pairs):
        # a and b see the first ten, b and c the others; c is a second camera at a's place.
        cameras["a" if index < 10 else "c"][f"t{index}"] = left
        cameras["b"][f"t{index}"] = right
    calibrations = {name: solve(list(views.values()), POINTS) for name, views in cameras.items()}
    found = solve_rig(cameras, POINTS, calibrations, reference="a")
    assert set(found) == {"b", "c"}
    assert np.abs(found["b"].T - T).max() < 5 * np.sqrt(np.diag(found["b"].covariance)[3:].max())
    assert np.abs(found["c"].T).max() < 5 * np.sqrt(np.diag(found["c"].covariance)[3:].max())
    assert not found["c"].pairs
    del cameras["b"]["t0"]
    alone = {"a": cameras["a"], "c": cameras["c"]}
    with pytest.raises(CalibrationError, match="c shares 0 usable views"):
        solve_rig(alone, POINTS, calibrations)


def test_epipolar_distance_is_that_of_a_pixel_moved_across_the_line() -> None:
    pairs = pairs_of("plumb_bob", noise=0.0)
    first, second = (solve([pair[side] for pair in pairs], POINTS) for side in (0, 1))
    found = solve_stereo(pairs, POINTS, first, second)
    _, a, b = np.intersect1d(pairs[1][0].ids, pairs[1][1].ids, return_indices=True)
    left, right = pairs[1][0].pixels[a], pairs[1][1].pixels[b]
    assert np.abs(epipolar_distances(found, left, right)).max() < 0.02
    moved = np.abs(epipolar_distances(found, left, right + [0.0, 1.0]))
    assert 0.6 < moved.min() < moved.max() < 1.4


def test_unlike_pairs_are_not_rectified() -> None:
    pairs = pairs_of("plumb_bob")
    first, second = (solve([pair[side] for pair in pairs], POINTS) for side in (0, 1))
    found = solve_stereo(pairs, POINTS, first, second)
    with pytest.raises(CalibrationError, match="same size"):
        rectify(replace(found, second=replace(second, image_size=(320, 240))))
    with pytest.raises(CalibrationError, match="same model"):
        rectify(replace(found, second=replace(second, model="equidistant")))
