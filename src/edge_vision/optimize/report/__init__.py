"""The report of an optimisation: what every step did to size, accuracy, latency and memory, and whether it suffices.

report = Report(...)                           # data.py; building.py measures what goes in
write_report(report, folder)                   # report.json, report.md, report.html and plots
report = read_report(folder / "report.json")
"""

from edge_vision.optimize.report.data import Report, Score, StepReport, TrialReport, Verdict
from edge_vision.optimize.report.files import read_report, write_report

__all__ = ["Report", "Score", "StepReport", "TrialReport", "Verdict", "read_report", "write_report"]
