"""`sim://conveyor?...` URIs: what is read, and what the user is told when it cannot be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_vision.simulation import ConveyorOptions


def test_defaults() -> None:
    assert ConveyorOptions.from_uri("sim://conveyor") == ConveyorOptions()


def test_every_kind_of_value() -> None:
    options = ConveyorOptions.from_uri(
        "sim://conveyor?width=1920&height=1080&fps=29.97&seed=3&frames=600&noise=off&blur=true&density=0.25"
    )
    assert options == ConveyorOptions(1920, 1080, 29.97, 3, 600, 0.25, noise=False, blur=True)
    assert ConveyorOptions.from_uri("sim://conveyor?frames=none").frames is None


@given(st.integers(32, 1920), st.integers(0, 2**40), st.floats(0, 1), st.booleans())
def test_what_is_written_is_read(width: int, seed: int, density: float, noise: bool) -> None:
    uri = f"sim://conveyor?width={width}&seed={seed}&density={density!r}&noise={'on' if noise else 'off'}"
    assert ConveyorOptions.from_uri(uri) == ConveyorOptions(width=width, seed=seed, density=density, noise=noise)


def test_an_unknown_key_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown option 'wdith' .*width, height, fps, seed, frames"):
        ConveyorOptions.from_uri("sim://conveyor?wdith=640")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("fps=fast", "'fps' .* 'fast': expected a number"),
        ("width=640.5", "'width' .* expected a whole number"),
        ("noise=maybe", "'noise' .* expected on or off"),
        ("frames=", None),
        ("width=8", "'width' is 8: it must be in 32"),
        ("density=1.5", "'density' is 1.5: it must be in 0 .. 1"),
        ("fps=nan", "'fps' is nan"),
        ("fps=0", "'fps'"),
        ("seed=-1", "'seed'"),
        ("width=1000&height=100", "1000x100: at most four times as wide"),
    ],
)
def test_unreadable_values_are_named(query: str, message: str | None) -> None:
    if message is None:
        assert ConveyorOptions.from_uri(f"sim://conveyor?{query}").frames is None
        return
    with pytest.raises(ValueError, match=message):
        ConveyorOptions.from_uri(f"sim://conveyor?{query}")


@pytest.mark.parametrize("uri", ["sim://ocean", "file:///conveyor", "conveyor", "sim://"])
def test_another_scene_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="expected sim://conveyor"):
        ConveyorOptions.from_uri(uri)
