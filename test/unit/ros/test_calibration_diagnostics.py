"""What the diagnostics say of a calibration that is being made."""

from __future__ import annotations

from edge_vision.datatypes import CalibrationStatus
from edge_vision.ros.calibration_diagnostics import UNSEEN_S, attention, figures


def test_what_is_known_is_told_and_nothing_else() -> None:
    early = figures(CalibrationStatus(state="collecting", board="chessboard 8x5", views=2), {})
    assert early["views"] == "2"
    assert early["newest image"] == "none yet"
    assert "rms [px]" not in early
    assert "next view" not in early
    late = figures(
        CalibrationStatus(
            state="collecting",
            model="plumb_bob",
            rms=0.1234,
            uncertainty_centre=0.02,
            uncertainty_corners=0.4,
            reasons=("too few views", "no tilt"),
            next_view="nearer, top left",
            committed=True,
        ),
        {"moving": 3, "blurred": 12},
    )
    assert late["rms [px]"] == "0.123"
    assert (late["reason 1"], late["reason 2"]) == ("too few views", "no tilt")
    assert late["next view"] == "nearer, top left"
    assert (late["not kept: blurred"], late["not kept: moving"]) == ("12", "3")
    assert late["committed"] == "yes"


def test_a_board_that_is_not_seen_and_a_result_that_is_not_used_are_worth_a_warning() -> None:
    collecting = CalibrationStatus(state="collecting", board="chessboard 8x5", looked="no board")
    assert attention(collecting, UNSEEN_S - 1, "own.yaml") is None
    said = attention(collecting, UNSEEN_S + 5, "own.yaml")
    assert said is not None
    assert said.startswith("the board (chessboard 8x5) has not been seen for 20 s")
    assert "own.yaml" in said
    assert said.endswith("Newest image: no board")
    assert attention(CalibrationStatus(state="idle"), 1000, "x") is None
    assert attention(CalibrationStatus(state="done", committed=True), 1000, "x") is None
    assert "call ~/commit" in (attention(CalibrationStatus(state="done"), 1000, "x") or "")
