"""Solving: published truths, simulated cameras inside the sigmas, what does not fit, and what cannot be solved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_vision.benchmarks.calibration import Scene, projection_error, simulate, study
from edge_vision.calibration.boards import Board
from edge_vision.calibration.covariance import corner_pixels, lens_sigma
from edge_vision.calibration.detection import DetectionOptions, detect
from edge_vision.calibration.models import parameters_of, project, rotation_matrices, unproject
from edge_vision.calibration.residuals import Corners, State, blocks, residuals
from edge_vision.calibration.result import Calibration, CalibrationError
from edge_vision.calibration.solving import solve
from edge_vision.calibration.views import View


def chessboard(columns: int, rows: int, spacing: float) -> np.ndarray:
    row, column = np.indices((rows, columns)).reshape(2, -1)
    return np.stack([column * spacing, row * spacing, np.zeros(row.size)], axis=1)


# --- published truths ------------------------------------------------------------------------------------------------


def test_zhang_s_own_data(shared_data: Path) -> None:
    """Zhang 1998: parameters within 0.8 px of the published, sigmas within 3 % of those by 2N - p."""
    folder = shared_data / "calibration" / "zhang1998"
    model = np.loadtxt(folder / "Model.txt").reshape(-1, 2) * 0.0254
    points = np.column_stack([model, np.zeros(len(model))])
    views = [
        View(f"data{i}", np.arange(256), np.loadtxt(folder / f"data{i}.txt").reshape(-1, 2), (640, 480))
        for i in range(1, 6)
    ]
    found = solve(views, points, terms=("k1", "k2"))
    assert not found.outliers
    assert not found.removed
    assert found.rms == pytest.approx(0.336, abs=0.003)
    published = {"fx": (832.5, 0.8), "fy": (832.53, 0.8), "cx": (303.959, 0.5), "cy": (206.585, 0.5)}
    published |= {"k1": (-0.228601, 0.002), "k2": (0.190353, 0.005)}
    for name, (value, tolerance) in published.items():
        assert found.values[name] == pytest.approx(value, abs=tolerance), name
    sigmas = {"fx": 1.40388, "fy": 1.38312, "cx": 0.71067, "cy": 0.65448, "k1": 0.00413, "k2": 0.02488}
    for name, sigma in sigmas.items():
        assert found.sigmas[name] == pytest.approx(sigma, rel=0.03), name


def test_the_classic_left_images(shared_data: Path) -> None:
    """Bouguet's result for OpenCV's left01 to left14: fx 533.00 +- 1.08, fy 533.15 +- 1.11 (3 sigma)."""
    board = Board("chessboard", 9, 6, 0.03)
    views = []
    for path in sorted((shared_data / "calibration" / "opencv_left").glob("*.jpg")):
        view = detect(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), board, name=path.name)
        assert isinstance(view, View), view
        views.append(view)
    assert len(views) == 13
    result = solve(views, board.points)
    assert abs(result.K[0, 0] - 533.0) < 1.08
    assert abs(result.K[1, 1] - 533.15) < 1.11
    assert result.rms < 0.22
    assert result.values["k1"] == pytest.approx(-0.289, abs=0.01)


def test_the_charuco_photographs(shared_data: Path) -> None:
    """Seven photographs 1024x768, detected here: RMS < 0.35, K about 790.5, 795.8, 510, 379 (OpenCV)."""
    board = Board("charuco", 9, 7, 0.04, marker=0.02, dictionary="DICT_4X4_100")
    views = []
    for path in sorted((shared_data / "calibration" / "charuco").glob("*.jpg")):
        view = detect(cv2.imread(str(path)), board, options=DetectionOptions(thorough=True), name=path.name)
        assert isinstance(view, View), view
        views.append(view)
    assert len(views) == 7
    result = solve(views, board.points)
    assert result.rms < 0.35
    for name, value, tolerance in (("fx", 790.5, 5.0), ("fy", 795.8, 5.0), ("cx", 510.0, 6.0), ("cy", 379.0, 6.0)):
        assert result.values[name] == pytest.approx(value, abs=tolerance), name


def test_mrcal_s_wide_lens_with_a_bent_board(shared_data: Path) -> None:
    """186 views of a 150 degree lens: RMS < 1.05 with the bow, within 1 px of mrcal away from the corners, no throw."""
    data = np.load(shared_data / "calibration" / "mrcal_samyang" / "observations.npz")
    seen = data["observations_board"].astype(np.float64).reshape(-1, 100, 3)
    points = chessboard(10, 10, float(data["calibration_object_spacing"]))
    views = [View(f"{i:03d}", np.arange(100), one[:, :2], (6016, 4016)) for i, one in enumerate(seen)]

    rational = solve(views, points, model="rational_polynomial", bow=True)
    assert rational.rms < 1.05
    assert len(rational.views) > 180
    np.testing.assert_allclose(rational.bow, data["calobject_warp"], atol=5e-5)
    x, y = np.meshgrid(np.linspace(0, 6015, 25), np.linspace(0, 4015, 17))
    pixels = np.stack([x.ravel(), y.ravel()], axis=1)
    pixels = pixels[np.hypot(*(pixels - (3007.5, 2007.5)).T) < 2200]
    theirs = Scene("rational_polynomial", data["intrinsics_opencv8"], np.zeros(2), (6016, 4016), points, (), 0.0)
    # Both cameras may stand turned a little to each other: that is taken out over the pixels that are compared.
    rays = unproject("rational_polynomial", theirs.parameters, pixels)
    ours = rational.parameters[:-2]
    turn = np.zeros(3)
    for _ in range(4):
        base = (project(rational.model, ours, rays @ rotation_matrices(turn)[0].T) - pixels).ravel()
        slopes = np.stack(
            [
                (
                    (project(rational.model, ours, rays @ rotation_matrices(turn + 1e-6 * e)[0].T) - pixels).ravel()
                    - base
                )
                / 1e-6
                for e in np.eye(3)
            ],
            axis=1,
        )
        turn = turn - np.linalg.lstsq(slopes, base, rcond=None)[0]
    off = project(rational.model, ours, rays @ rotation_matrices(turn)[0].T) - pixels
    assert np.hypot(*off.T).max() < 1.0

    equidistant = solve(views, points, model="equidistant", bow=True)
    assert equidistant.rms < 1.05
    assert len(equidistant.views) > 180
    narrow = solve(views[::6], points, model="plumb_bob")  # which cannot describe it: bad, but no exception
    assert narrow.rms > 5.0


# --- simulated cameras -----------------------------------------------------------------------------------------------


def test_simulated_cameras_are_recovered_inside_the_reported_sigmas() -> None:
    runs = study(16, seed=7)
    outside = [run for run in runs if not run.worst <= 3.0]
    assert len(outside) <= 1, outside
    assert 1 / 1.3 < np.sqrt(np.mean([run.corner**2 for run in runs])) < 1.3
    assert sum(run.removed for run in runs) <= 2


@pytest.mark.parametrize("model", ["plumb_bob", "rational_polynomial", "equidistant"])
def test_without_noise_the_truth_comes_back(model: str) -> None:
    source = "equidistant" if model == "equidistant" else "plumb_bob"
    scene = simulate(np.random.default_rng(3), source, noise=0.0, views=12)
    terms = ("k1", "k2", "p1", "p2") if source == "plumb_bob" else None
    found = solve(scene.views, scene.points, model=model, terms=terms)
    np.testing.assert_allclose(found.parameters[:8], scene.parameters[:8], rtol=1e-5, atol=1e-5)
    assert found.rms < 1e-4
    assert (
        np.abs(projection_error(replace(scene, model=source), found, corner_pixels(scene.image_size, 0.2))).max() < 0.01
    )


def test_normal_equations_are_those_of_differences() -> None:
    """Jacobian of pose and bow, by the change of residuals: the gradient of each view's cost."""
    scene = simulate(np.random.default_rng(5), "equidistant", views=4, bow=0.001)
    found = solve(scene.views, scene.points, model="equidistant", bow=True)
    corners = Corners.of(scene.views, scene.points)
    shared = found.parameters + 1e-3
    state = State(shared, rotation_matrices(found.rotations), found.translations + 1e-3)
    products, costs = blocks("equidistant", corners, state)
    n = len(shared)
    for index in range(n + 6):
        moved = []
        for sign in (1.0, -1.0):
            step = np.zeros(n + 6)
            step[index] = sign * 1e-6
            turned = rotation_matrices(step[n : n + 3])[0] @ state.rotations
            at = State(shared + step[:n], turned, state.translations + step[n + 3 :])
            moved.append(blocks("equidistant", corners, at)[1])
        slope = (moved[0] - moved[1]) / 2e-6
        np.testing.assert_allclose(products[:, index, -1], -0.5 * slope, rtol=1e-3, atol=1e-2 * np.sqrt(costs.max()))


def test_a_huber_cost_is_linear_beyond_its_limit() -> None:
    scene = simulate(np.random.default_rng(5), "plumb_bob", views=4, noise=2.0)
    corners = Corners.of(scene.views, scene.points)
    found = solve(scene.views, scene.points, rejection=None)
    state = State(np.r_[found.parameters, 0, 0], rotation_matrices(found.rotations), found.translations)
    distance = np.hypot(*residuals("plumb_bob", corners, state))
    expected = np.where(distance > 1.0, 2 * distance - 1, distance**2)
    costs = blocks("plumb_bob", corners, state, 1.0)[1]
    assert costs.sum() == pytest.approx(expected.sum(), rel=1e-9)
    assert blocks("plumb_bob", corners, state)[1].sum() == pytest.approx((distance**2).sum(), rel=1e-9)


# --- what does not fit -----------------------------------------------------------------------------------------------


def spoiled(scene: Scene, view: int, shift: np.ndarray, which: slice) -> list[View]:
    views = list(scene.views)
    pixels = views[view].pixels.copy()
    pixels[which] += shift
    views[view] = replace(views[view], pixels=pixels)
    return views


def test_wrong_corners_are_left_out_and_listed() -> None:
    scene = simulate(np.random.default_rng(11), "plumb_bob", views=15)
    views = spoiled(scene, 4, np.array([9.0, -7.0]), slice(3, 6))
    found = solve(views, scene.points)
    assert {(o.view, o.id) for o in found.outliers} == {("view 4", int(i)) for i in views[4].ids[3:6]}
    assert all(o.distance == pytest.approx(11.4, abs=1.5) for o in found.outliers)
    assert not found.removed
    clean = solve(scene.views, scene.points)
    assert abs(found.K[0, 0] - clean.K[0, 0]) < clean.sigmas["fx"]
    assert found.corner_count == clean.corner_count - 3


def test_a_view_that_does_not_belong_is_removed_with_its_reason() -> None:
    scene = simulate(np.random.default_rng(12), "equidistant", views=15)
    generator = np.random.default_rng(0)
    views = spoiled(scene, 2, generator.normal(0, 15, scene.views[2].pixels.shape), slice(None))
    views[7] = replace(views[7], ids=views[7].ids[:4], pixels=views[7].pixels[:4])
    views[9] = replace(views[9], ids=np.arange(9), pixels=np.stack([np.arange(9) * 9.0, np.full(9, 50.0)], axis=1))
    found = solve(views, scene.points, model="equidistant")
    reasons = {view.name: view.reason for view in found.removed}
    assert set(reasons) == {"view 2", "view 7", "view 9"}
    assert "do not fit" in reasons["view 2"] or "RMS" in reasons["view 2"]
    assert "4 corners, 6 are needed" in reasons["view 7"]
    assert "one line" in reasons["view 9"]
    assert abs(found.K[0, 0] - scene.parameters[0]) < 4 * found.sigmas["fx"]


def test_the_bow_is_found_and_a_flat_solve_of_a_bent_board_is_worse() -> None:
    scene = simulate(np.random.default_rng(13), "plumb_bob", views=25, noise=0.15, bow=0.0015)
    bent = solve(scene.views, scene.points, bow=True)
    flat = solve(scene.views, scene.points)
    for name, truth in zip(("bow_x", "bow_y"), scene.bow, strict=True):
        assert abs(bent.values[name] - truth) < 4 * bent.sigmas[name]
    assert bent.rms < flat.rms
    pixels = corner_pixels(scene.image_size, 0.1)
    assert np.abs(projection_error(scene, bent, pixels)).max() < np.abs(projection_error(scene, flat, pixels)).max()


# --- options ---------------------------------------------------------------------------------------------------------


def test_parameters_can_be_held() -> None:
    scene = simulate(np.random.default_rng(14), "plumb_bob", views=8)
    found = solve(scene.views, scene.points, terms=("k1",), fix={"cx": 300.0, "cy": 200.0}, aspect=1.01)
    assert found.K[0, 2] == 300.0
    assert found.K[1, 2] == 200.0
    assert found.K[0, 0] / found.K[1, 1] == pytest.approx(1.01, rel=1e-9)
    assert found.names == ("fx", "fy", "k1")
    assert found.sigmas["fx"] == pytest.approx(1.01 * found.sigmas["fy"], rel=1e-6)
    assert np.all(found.D[1:] == 0)
    full = found.full_covariance()
    assert full.shape == (9, 9)
    assert full[2, 2] == 0


def test_going_on_from_an_earlier_solution_gives_the_same() -> None:
    scene = simulate(np.random.default_rng(15), "equidistant", views=14)
    early = solve(scene.views[:10], scene.points, model="equidistant")
    on = solve(scene.views, scene.points, model="equidistant", start=early)
    anew = solve(scene.views, scene.points, model="equidistant")
    for name, sigma in anew.sigmas.items():
        assert abs(on.values[name] - anew.values[name]) < 0.01 * sigma, name
    assert on.iterations < anew.iterations + 10


def test_more_views_make_it_surer_and_near_identical_ones_do_not() -> None:
    scene = simulate(np.random.default_rng(16), "plumb_bob", views=20)
    generator = np.random.default_rng(1)
    first = scene.views[0]
    alike = [
        replace(first, name=f"again {i}", pixels=first.pixels + generator.normal(0, 0.2, first.pixels.shape))
        for i in range(4)
    ]
    pixels = corner_pixels(scene.image_size)
    few, many = (lens_sigma(solve(scene.views[:n], scene.points), pixels).max() for n in (6, 20))
    same = solve(alike, scene.points)
    assert many < few
    assert same.rms < 0.5
    assert same.sigmas["fx"] / same.K[0, 0] > 0.01


def test_the_result_speaks_for_itself() -> None:
    scene = simulate(np.random.default_rng(17), "plumb_bob", views=6)
    found: Calibration = solve(scene.views, scene.points)
    assert found.parameter_names[-1] == "k3"
    np.testing.assert_array_equal(parameters_of(found.model, found.K, found.D), found.parameters)
    squares = np.concatenate([np.sum(each**2, axis=1) for each in found.residuals])
    assert found.rms == pytest.approx(np.sqrt(squares.mean()))
    assert found.noise == pytest.approx(np.sqrt(squares.sum() / (2 * len(squares) - 8 - 6 * 6)))
    assert found.view_rms.shape == (6,)
    assert found.pose_sigmas.shape == (6, 6)
    for view in range(6):
        placed = (
            scene.points[found.ids[view]] @ rotation_matrices(found.rotations[view])[0].T + found.translations[view]
        )
        off = found.pixels[view] - project(found.model, found.parameters, placed)
        np.testing.assert_allclose(off, found.residuals[view], atol=1e-9)
    info = found.camera_info("front", "front_optical_frame")
    assert (info.width, info.height) == scene.image_size
    assert info.P[0, 0] == found.K[0, 0]


def test_sigmas_are_those_of_2n_minus_p() -> None:
    """Against OpenCV's own Jacobian of all parameters, inverted whole."""
    scene = simulate(np.random.default_rng(18), "plumb_bob", views=7)
    found = solve(scene.views, scene.points, terms=("k1", "k2", "p1", "p2"), rejection=None)
    rows = []
    for view in range(7):
        J = cv2.projectPoints(
            scene.points[found.ids[view]], found.rotations[view], found.translations[view], found.K, found.D
        )[1]
        block = np.zeros((len(J), 8 + 42))
        block[:, :8] = J[:, 6:14]
        block[:, 8 + 6 * view : 14 + 6 * view] = J[:, :6]
        rows.append(block)
    whole = np.concatenate(rows)
    covariance = found.noise**2 * np.linalg.inv(whole.T @ whole)
    np.testing.assert_allclose(list(found.sigmas.values()), np.sqrt(np.diag(covariance)[:8]), rtol=1e-4)
    np.testing.assert_allclose(
        found.pose_sigmas[:, 3:], np.sqrt(np.diag(covariance)[8:]).reshape(7, 6)[:, 3:], rtol=1e-4
    )


# --- what cannot be solved -------------------------------------------------------------------------------------------


def test_impossible_input_is_refused_with_a_remedy() -> None:
    scene = simulate(np.random.default_rng(19), "plumb_bob", views=5)
    views = list(scene.views)
    with pytest.raises(CalibrationError, match="no views"):
        solve([], scene.points)
    with pytest.raises(CalibrationError, match=r"2 usable views, 3 are needed.*tilted"):
        solve(views[:2], scene.points)
    other = replace(views[1], image_size=(320, 240))
    with pytest.raises(CalibrationError, match=r"different sizes.*320x240 \(view 1\)"):
        solve([views[0], other, *views[2:]], scene.points)
    with pytest.raises(CalibrationError, match=r"view 0: corner .* of a board of 10"):
        solve(views, scene.points[:10])
    with pytest.raises(CalibrationError, match="has no k4"):
        solve(views, scene.points, terms=("k4",))
    with pytest.raises(CalibrationError, match="unknown camera model 'fisheye'"):
        solve(views, scene.points, model="fisheye")
    broken = replace(views[0], pixels=np.full_like(views[0].pixels, np.nan))
    with pytest.raises(CalibrationError, match="view 0: a corner is not finite"):
        solve([broken, *views[1:]], scene.points)
    with pytest.raises(CalibrationError, match="one plane"):
        solve(views, scene.points + np.arange(len(scene.points))[:, None] * 0.001)


def test_a_board_described_with_the_wrong_shape_does_not_pass_as_good() -> None:
    scene = simulate(np.random.default_rng(20), "plumb_bob", views=10, columns=9, rows=7)
    wrong = chessboard(7, 9, 0.04)  # columns and rows exchanged
    try:
        found = solve(scene.views, wrong)
    except CalibrationError:
        return
    assert found.rms > 5.0
