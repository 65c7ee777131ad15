"""CalibrationStatus: message and back, through the bytes that travel."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from edge_vision.msg import CalibrationStatus as Message
from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message

from edge_vision.calibration.models import rotation_matrices
from edge_vision.datatypes import CalibrationStatus
from edge_vision.ros.calibration_adapters import CALIBRATION_STATUS


def travelled(status: CalibrationStatus) -> CalibrationStatus:
    message = deserialize_message(serialize_message(CALIBRATION_STATUS.to_message(status)), Message)
    return CALIBRATION_STATUS.from_message(message)


turns = st.tuples(*[st.floats(-1.8, 1.8)] * 3)


@given(turns, st.tuples(*[st.floats(-5, 5)] * 3), st.sampled_from([0.0, 0.25, math.nan]))
def test_a_status_comes_back_as_it_was(turn: tuple, place: tuple, figure: float) -> None:
    cells = np.zeros((10, 10), bool)
    cells[2, 7] = True
    sent = CalibrationStatus(
        state="collecting",
        message="kept",
        board="chessboard",
        seen=True,
        views=7,
        width=640,
        height=480,
        x=0.5,
        cells=cells,
        rms=figure,
        reasons=("few views",),
        remedies=("add views",),
        next_view="near, top left",
        next_outline=np.array([[1.5, 2.5], [3.0, 4.0]], np.float32),
        next_rotation=rotation_matrices(np.array([turn]))[0],
        next_translation=np.array(place),
        committed=True,
        stamp=1_700_000_000_123_456_789,
        frame_id="lens",
    )
    got = travelled(sent)
    for field in dataclasses.fields(CalibrationStatus):
        before, after = getattr(sent, field.name), getattr(got, field.name)
        if isinstance(before, np.ndarray):
            np.testing.assert_allclose(after, before, atol=1e-9, err_msg=field.name)
            assert after.dtype == before.dtype
        else:
            assert after == before or (math.isnan(after) and math.isnan(before)), field.name


def test_corners_of_the_frame_stay_at_home() -> None:
    got = travelled(CalibrationStatus(corners=np.ones((3, 2), np.float32)))
    assert got.corners.shape == (0, 2)
