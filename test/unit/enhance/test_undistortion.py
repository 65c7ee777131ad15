"""Undistortion in the enhancer: the last step, by wish, on 16-bit images too."""

from __future__ import annotations

import numpy as np

from edge_vision.datatypes import Frame
from edge_vision.enhance import EnhanceParameters, Enhancer
from edge_vision.simulation import Conveyor, ConveyorOptions

GOOD = Conveyor(ConveyorOptions()).camera_info()


def test_in_the_pipeline_it_is_last_and_by_wish() -> None:
    frame = Conveyor(ConveyorOptions(seed=1)).render(5).frame
    enhancer = Enhancer()
    enhancer.set_camera(GOOD)
    assert enhancer.enhance(frame).image is not frame.image
    assert enhancer.applied == ("undistort",)
    assert not enhancer.info.D.any()
    kept = Enhancer(EnhanceParameters(undistort=False))
    kept.set_camera(GOOD)
    assert kept.enhance(frame) is frame
    assert np.array_equal(kept.info.D, GOOD.D)
    sixteen = Frame((frame.image[..., 0].astype(np.uint16) << 8), encoding="mono16")
    assert enhancer.enhance(sixteen).image.dtype == np.uint16
