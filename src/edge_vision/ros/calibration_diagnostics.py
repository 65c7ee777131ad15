"""What the diagnostics tell of a calibration that is being made."""

from __future__ import annotations

from collections.abc import Mapping

from edge_vision.datatypes import CalibrationStatus

UNSEEN_S = 15.0
"""A board that has not been seen for so long is worth a warning."""


def figures(status: CalibrationStatus, rejected: Mapping[str, int]) -> dict[str, str]:
    """By name, for people. rejected: how many images were not kept, by reason."""
    said = {
        "state": status.state,
        "message": status.message,
        "board": status.board,
        "views": str(status.views),
        "newest image": status.looked or "none yet",
        "coverage": f"{status.coverage:.2f}",
        "verdict": status.verdict,
    }
    if status.model:
        said |= {
            "model": status.model,
            "rms [px]": f"{status.rms:.3f}",
            "uncertainty centre [px]": f"{status.uncertainty_centre:.3f}",
            "uncertainty corners [px]": f"{status.uncertainty_corners:.3f}",
        }
    said |= {f"reason {number}": reason for number, reason in enumerate(status.reasons, 1)}
    if status.next_view:
        said["next view"] = status.next_view
    said |= {f"not kept: {why}": str(count) for why, count in sorted(rejected.items())}
    return said | {"committed": "yes" if status.committed else "no", "archive": status.archive or "none"}


def attention(status: CalibrationStatus, unseen_s: float, given: str) -> str | None:
    """What somebody should see to, or None. unseen_s: since the board was seen last; given: the parameter `board`."""
    if status.state == "collecting" and unseen_s > UNSEEN_S:
        return (
            f"the board ({status.board}) has not been seen for {unseen_s:.0f} s: is it in the picture, lit, and the "
            f"one of the parameter board, {given}? Newest image: {status.looked or 'none yet'}"
        )
    if status.state == "done" and not status.committed:
        return "the calibration is done, but the camera does not have it yet: call ~/commit"
    return None
