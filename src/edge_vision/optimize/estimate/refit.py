"""`python -m edge_vision.optimize.estimate.refit config/targets/*.yaml` writes fitted constants and their errors
into the lines `constants:` and `error:` of target files: the only numbers there that were not published."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from edge_vision.optimize.estimate.fitting import error_of
from edge_vision.optimize.estimate.roofline import Constants
from edge_vision.optimize.estimate.targets import read_target


def refit(path: Path) -> None:
    """Fits every setting of a target file anew. Raises ModelError for a file that is none, ValueError for a setting
    without the lines to write to."""
    target = read_target(path, fitted=False)
    text = path.read_text(encoding="utf-8")
    for setting in target.settings:
        if setting.like:
            continue
        fitted = setting.fit()
        ratios = setting.left_out()
        error = error_of(ratios)
        values = ", ".join(f"{name}: {getattr(fitted, name):.3e}" for name in Constants.__slots__ if name != "start")
        for key, line in (("constants", values), ("error", f"rms: {error.rms:.3f}, points: {error.points}")):
            text, count = _replaced(text, setting.name, key, line)
            if count != 1:
                raise ValueError(f"{path}: {setting.name} has no line `{key}: {{}}`")
    path.write_text(text, encoding="utf-8")


def _replaced(text: str, setting: str, key: str, line: str) -> tuple[str, int]:
    """With the mapping of `key` in the part of a setting replaced, and how often."""
    pattern = rf"(  - name: {re.escape(setting)}\n(?:    .*\n)*?    {key}: )\{{.*\}}"
    return re.subn(pattern, lambda found: f"{found[1]}{{{line}}}", text)


if __name__ == "__main__":
    for given in sys.argv[1:]:
        refit(Path(given))
