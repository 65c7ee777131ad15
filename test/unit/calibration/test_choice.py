"""The model and its terms are chosen by what was not fitted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge_vision.benchmarks.calibration import Scene, simulate
from edge_vision.calibration.choice import choose, hold_out_error
from edge_vision.calibration.models import project, rotation_matrices
from edge_vision.calibration.result import CalibrationError
from edge_vision.calibration.solving import solve
from edge_vision.calibration.views import View


def test_a_narrow_lens_gets_plumb_bob_without_what_nothing_tells_of() -> None:
    scene = simulate(np.random.default_rng(21), "plumb_bob", views=15, noise=0.2)
    choice = choose(scene.views, scene.points, folds=3)
    found = choice.calibration
    assert found.model == "plumb_bob"
    assert "k3" not in found.names
    assert found.bow is None
    assert choice.hold_out == pytest.approx(0.2, rel=0.15)
    assert any("hold-out" in note for note in found.notes)
    assert {candidate.model for candidate in choice.candidates} == {
        "plumb_bob",
        "equidistant",
        "rational_polynomial",
    }
    for name in found.names[4:]:
        if name not in ("p1", "p2"):
            assert abs(found.values[name]) > 2 * found.sigmas[name]


def test_a_fisheye_gets_equidistant() -> None:
    scene = simulate(np.random.default_rng(22), "equidistant", views=15, noise=0.2)
    choice = choose(scene.views, scene.points, models=("plumb_bob", "equidistant"), folds=3)
    assert choice.calibration.model == "equidistant"
    assert choice.hold_out == pytest.approx(0.2, rel=0.2)
    pinhole = [each.hold_out for each in choice.candidates if each.model == "plumb_bob"]
    assert min(pinhole) > choice.hold_out


def test_a_bent_board_is_found_out_and_a_flat_one_left_flat() -> None:
    bent = simulate(np.random.default_rng(23), "plumb_bob", views=16, noise=0.15, bow=0.0015)
    choice = choose(bent.views, bent.points, models=("plumb_bob",), folds=3)
    for name, truth in zip(("bow_x", "bow_y"), bent.bow, strict=True):
        assert abs(choice.calibration.values[name] - truth) < 4 * choice.calibration.sigmas[name]
    flat = replace(bent, views=flattened(bent))
    assert choose(flat.views, flat.points, models=("plumb_bob",), folds=3).calibration.bow is None


def flattened(scene: Scene) -> tuple[View, ...]:
    """The same poses with a flat board."""
    found = solve(scene.views, scene.points, bow=True)
    generator = np.random.default_rng(3)
    views = []
    for view, R, t in zip(scene.views, rotation_matrices(found.rotations), found.translations, strict=True):
        pixels = project("plumb_bob", scene.parameters, scene.points[view.ids] @ R.T + t)
        views.append(replace(view, pixels=pixels + generator.normal(0, scene.noise, pixels.shape)))
    return tuple(views)


def test_outliers_stay_listed_and_the_choice_needs_views() -> None:
    scene = simulate(np.random.default_rng(24), "plumb_bob", views=12)
    views = list(scene.views)
    pixels = views[3].pixels.copy()
    pixels[5] += 12.0
    views[3] = replace(views[3], pixels=pixels)
    found = choose(views, scene.points, models=("plumb_bob",), bow=False, folds=3).calibration
    assert [(o.view, o.id) for o in found.outliers] == [("view 3", int(views[3].ids[5]))]
    with pytest.raises(CalibrationError, match="2 usable views"):
        choose(views[:2], scene.points)
    with pytest.raises(CalibrationError, match="no camera model"):
        choose(views, scene.points, models=())


def test_hold_out_error_is_the_noise_where_the_model_is_right() -> None:
    scene = simulate(np.random.default_rng(25), "plumb_bob", views=15, noise=0.3)
    right = solve(scene.views, scene.points)
    lean = solve(scene.views, scene.points, terms=())
    assert hold_out_error(right, scene.views, scene.points) == pytest.approx(0.3, rel=0.12)
    assert hold_out_error(lean, scene.views, scene.points) > 0.33
