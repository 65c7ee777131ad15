"""What every test shares: where the real data lies, when it is there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


def find_shared_data() -> Path | None:
    """The folder of real images, videos and models, or None: it is not part of the repository."""
    named = os.environ.get("EDGE_VISION_SHARED_DATA")
    candidates = [Path(named)] if named else [REPOSITORY.parent / "shared" / "data"]
    return next((path for path in candidates if (path / "README.md").is_file()), None)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    path = find_shared_data()
    if path is None:
        pytest.skip("real data not found: set EDGE_VISION_SHARED_DATA or put it at ../shared/data")
    return path


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(autouse=True, scope="session")
def no_tuning() -> Iterator[None]:
    """Candidates are measured only by the tests of that: what the others run on is the same at every run."""
    before = os.environ.get("EDGE_VISION_TUNING")
    os.environ["EDGE_VISION_TUNING"] = "off"
    yield
    if before is None:
        del os.environ["EDGE_VISION_TUNING"]
    else:
        os.environ["EDGE_VISION_TUNING"] = before
