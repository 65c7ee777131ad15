"""Where the project's data files lie: hardware profiles, node parameters, bundled models; and the cache."""

from __future__ import annotations

import os
from pathlib import Path

MARK = Path("config") / "hardware"
"""What a share folder is known by, in a clone and in an installed package alike."""


def share_directory() -> Path:
    """The folder that holds `config/` and `models/`.

    `EDGE_VISION_SHARE` names it where set. Otherwise it is looked for from this file upwards: the root of a clone, or
    `<prefix>/share/edge_vision` of an installed ROS package.

    Raises FileNotFoundError, with what was tried and the remedy, where there is none.
    """
    named = os.environ.get("EDGE_VISION_SHARE")
    if named:
        path = Path(named).expanduser()
        if (path / MARK).is_dir():
            return path
        raise FileNotFoundError(f"EDGE_VISION_SHARE is {named}, which holds no {MARK}/; name the folder that does")
    here = Path(__file__).resolve()
    for parent in here.parents:
        for candidate in (parent, parent / "share" / "edge_vision"):
            if (candidate / MARK).is_dir():
                return candidate
    raise FileNotFoundError(
        f"no folder with {MARK}/ above {here.parent}; "
        "set EDGE_VISION_SHARE to the clone, or to <prefix>/share/edge_vision"
    )


def find_model(model: str | os.PathLike[str]) -> Path:
    """A path as it is; a bare name that is none is looked for among the bundled models.

    Raises FileNotFoundError, with the remedy, where the folder of the bundled models is not found.
    """
    path = Path(model).expanduser()
    if path.exists() or len(path.parts) != 1 or path.suffix:
        return path
    bundled = share_directory() / "models" / path
    return bundled if bundled.is_dir() else path


def cache_directory(*parts: str) -> Path:
    """A folder for what can be made again (compiled engines, measurements, converters' environments); made if missing.

    `EDGE_VISION_CACHE` names its root; otherwise `$XDG_CACHE_HOME/edge_vision`, or `~/.cache/edge_vision`. Raises
    OSError where it cannot be made.
    """
    named = os.environ.get("EDGE_VISION_CACHE")
    root = Path(named).expanduser() if named else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    folder = (root if named else root / "edge_vision").joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
