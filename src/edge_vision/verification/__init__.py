"""Proof that a model gives the same on every backend: each file, backend, device and precision against fp32 ONNX
Runtime on the same frames.

    bundle = load_bundle("models/conveyor_parts")
    report = verify(bundle, take_frames("sim://conveyor?seed=9001"))
    print(text(report), report.passed)

What failed, or was not verified in a precision below fp32, is never chosen by itself (`inference.selection`). The
protocol and the limits are in docs/verification.md.
"""

from edge_vision.verification.figures import Figures, RawError
from edge_vision.verification.frames import COUNT, Frames, take_frames, usual_source
from edge_vision.verification.matching import Matches, match
from edge_vision.verification.picture import picture
from edge_vision.verification.plan import Absent
from edge_vision.verification.report import as_dict, markdown, text
from edge_vision.verification.tolerances import DEFAULTS, Tolerance, tolerance_of
from edge_vision.verification.verifying import FAILED, PASSED, SKIPPED, Report, Row, verify

__all__ = [
    "COUNT",
    "DEFAULTS",
    "FAILED",
    "PASSED",
    "SKIPPED",
    "Absent",
    "Figures",
    "Frames",
    "Matches",
    "RawError",
    "Report",
    "Row",
    "Tolerance",
    "as_dict",
    "markdown",
    "match",
    "picture",
    "take_frames",
    "text",
    "tolerance_of",
    "usual_source",
    "verify",
]
