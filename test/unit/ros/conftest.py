"""The parts of the ros room that need no other process. They import ROS messages, so they need the environment."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest


def _missing() -> str | None:
    for module in ("rclpy", "vision_msgs.msg", "edge_vision.msg"):
        try:
            importlib.import_module(module)
        except ImportError as error:
            return f"no ROS environment ({error}): run scripts/setup.sh, then . scripts/env.sh"
    return None


MISSING = _missing()


class Skipped(pytest.Module):
    """A test module that cannot even be imported here."""

    def collect(self) -> list:
        pytest.skip(MISSING or "", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    return Skipped.from_parent(parent, path=module_path) if MISSING else None
