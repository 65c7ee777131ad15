"""A report's files, each there whole or not at all."""

from __future__ import annotations

import io
import json
from pathlib import Path

from edge_vision.optimize.report import plots, text
from edge_vision.optimize.report.data import Report, as_dict, from_dict
from edge_vision.optimize.report.page import report_page
from edge_vision.whole_files import write_bytes

JSON, MARKDOWN, HTML = "report.json", "report.md", "report.html"


def write_report(report: Report, folder: Path) -> tuple[Path, ...]:
    """Writes report.json, report.md, report.html and the plots as PNG files; returns the files.

    Without matplotlib there are no plots, and the page says so. Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {} if plots.problem() else {f"{name}.png": name for name in plots.names(report)}
    contents: dict[str, bytes] = {}
    for file, name in drawn.items():
        target = io.BytesIO()
        plots.draw(report, name, target, "png")
        contents[file] = target.getvalue()
    contents[JSON] = (json.dumps(as_dict(report), indent=1, allow_nan=False) + "\n").encode()
    contents[MARKDOWN] = text.markdown(report, tuple(drawn)).encode()
    contents[HTML] = report_page(report).encode()
    for file, content in contents.items():
        write_bytes(folder / file, content)
    return tuple(folder / file for file in contents)


def read_report(path: Path) -> Report:
    """The report in a JSON file of `write_report`. Raises ValueError, naming the file and place; OSError."""
    try:
        return from_dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:  # JSON's and Unicode's too
        raise ValueError(f"{path}: {error}") from error
