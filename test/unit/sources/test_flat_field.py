"""``sim://flat`` as a source."""

from __future__ import annotations

import pytest

from edge_vision.sources import SourceError, open_source


def test_exposure_and_gain_change_while_it_plays() -> None:
    with open_source("sim://flat?bits=12&exposure=0.001&frames=3", width=32, height=16, frame_id="sensor") as source:
        assert source.controls() == {"exposure": 0.001, "gain": 1.0}
        first = source.read()
        assert first is not None
        assert first.frame.image.shape == (16, 32)
        assert (first.frame.encoding, first.frame.frame_id, first.frame.sequence) == ("mono16", "sensor", 0)
        assert source.set_control("exposure", 0.002) == 0.002
        second = source.read()
        assert second is not None
        black = 4 * 4095 / 255
        assert second.frame.image.mean() - black == pytest.approx(2 * (first.frame.image.mean() - black), rel=0.02)
        assert source.set_control("exposure", -1) == 0.001  # as it began
        assert source.set_control("gain", 0.5) == 0.5
        with pytest.raises(SourceError, match="exposure"):
            source.set_control("exposure", 5000)
        with pytest.raises(SourceError, match="unknown control"):
            source.set_control("aperture", 8)
        third = source.read()
        assert third is not None
        assert third.frame.stamp > second.frame.stamp
        assert source.read() is None


def test_options_that_cannot_be() -> None:
    with pytest.raises(SourceError, match="bits"):
        open_source("sim://flat?bits=7")
