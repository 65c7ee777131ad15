"""The simulated source's own manners: its camera can be adjusted while it plays."""

from __future__ import annotations

import numpy as np
import pytest

from edge_vision.datatypes import Frame
from edge_vision.sources import AUTOMATIC, MemorySource, Reconnecting, SourceError, SourceLost, open_source

URI = "sim://conveyor?seed=3&width=160&height=120&exposure=0.001"


def mean(source) -> float:
    return float(source.read().frame.image.mean())


def test_exposure_and_gain_change_from_the_next_frame_on() -> None:
    with open_source(URI) as source:
        assert source.controls() == {"exposure": 0.001, "gain": 1.0}
        dark = mean(source) - 4.0  # the black level
        assert source.set_control("exposure", 0.004) == 0.004
        assert mean(source) - 4.0 == pytest.approx(4 * dark, rel=0.05)
        assert source.set_control("gain", 0.5) == 0.5
        assert mean(source) - 4.0 == pytest.approx(2 * dark, rel=0.05)
        assert source.set_control("exposure", AUTOMATIC) == 0.001
        assert source.set_control("gain", AUTOMATIC) == 1.0
        assert mean(source) - 4.0 == pytest.approx(dark, rel=0.05)
        assert source.controls() == {"exposure": 0.001, "gain": 1.0}


def test_a_changed_exposure_renders_what_an_exposure_from_the_start_does() -> None:
    with open_source(URI) as changed, open_source(URI.replace("0.001", "0.006")) as begun:
        changed.set_control("exposure", 0.006)
        assert np.array_equal(changed.read().frame.image, begun.read().frame.image)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("exposure", 100.0, "'exposure' is 100"),
        ("exposure", 0.0, "positive"),
        ("gain", 0.0, "'gain' is 0"),
        ("gain", float("nan"), "not possible"),
        ("light", 2.0, "unknown control"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(name, value, said) -> None:
    with open_source(URI) as source:
        with pytest.raises(SourceError, match=said):
            source.set_control(name, value)
        assert source.controls() == {"exposure": 0.001, "gain": 1.0}


def test_a_recording_has_no_controls() -> None:
    with MemorySource([Frame(np.zeros((4, 4, 3), np.uint8))]) as source:
        assert source.controls() == {}
        with pytest.raises(SourceError, match="exposure cannot be changed while it plays"):
            source.set_control("exposure", 0.01)


def test_through_a_source_that_comes_back() -> None:
    source = Reconnecting(lambda: open_source(URI))
    assert source.controls() == {}
    with pytest.raises(SourceLost, match="when it is back"):
        source.set_control("gain", 2.0)
    source.connect()
    assert source.set_control("gain", 2.0) == 2.0
    assert source.controls()["gain"] == 2.0
    source.close()
