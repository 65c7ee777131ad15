"""The files of a calibration in one folder: ROS's, Kalibr's and OpenCV's, the report, its plots."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from edge_vision.calibration import plots
from edge_vision.calibration.camera_info_file import CameraInfoError
from edge_vision.calibration.files import format_kalibr, format_opencv, format_ros
from edge_vision.calibration.page import page
from edge_vision.calibration.report import CalibrationReport, markdown
from edge_vision.calibration.report_data import as_dict, as_record
from edge_vision.whole_files import write_text


def write_results(report: CalibrationReport, folder: Path) -> CalibrationReport:
    """Writes all of them; the report with their names, and a note of what there is not. Raises OSError.

    Without matplotlib: no plots and no page.
    """
    calibration, name = report.assessment.calibration, report.camera_name
    info = calibration.camera_info(name)
    notes, files = list(report.notes), []
    texts = {
        "ROS": (f"{name}.yaml", format_ros(info, as_record(report.assessment, report.verdict))),
        "OpenCV": (f"{name}.opencv.yml", format_opencv(info, calibration.rms)),
    }
    try:
        texts["Kalibr"] = (f"{name}.camchain.yaml", format_kalibr([info]))
    except CameraInfoError as error:
        notes.append(f"no Kalibr file: {error}")
    for what, (file, content) in texts.items():
        write_text(folder / file, content)
        files.append((what, str(folder / file)))
    missing = plots.problem()
    if missing:
        notes.append(f"no plots and no page: {missing}")
    else:
        for plot in plots.NAMES:
            plots.png(report, plot, folder / f"{plot}.png")
    files += [(kind, str(folder / f"report.{kind}")) for kind in ("json", "md", *(() if missing else ("html",)))]
    report = replace(report, files=tuple(files), notes=tuple(notes))
    write_text(folder / "report.json", report_json(report) + "\n")
    write_text(folder / "report.md", markdown(report, () if missing else plots.NAMES))
    if not missing:
        write_text(folder / "report.html", page(report))
    return report


def report_json(report: CalibrationReport) -> str:
    """The report as JSON (no NaN)."""
    return json.dumps(as_dict(report), indent=2, allow_nan=False)
