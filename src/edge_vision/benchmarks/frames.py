"""The frames of a measurement: rendered once from the twin, mapped by every process that plays them.

All contenders see the same pixels, and none of them pays for making or owning them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROOM = 192 << 20  # bytes of distinct frames: several times any cache, so that a frame comes as cold as a camera's


@dataclass(frozen=True, slots=True)
class FrameFile:
    """(count, height, width, 3) uint8 BGR in a file."""

    path: Path
    count: int
    width: int
    height: int

    def open(self) -> NDArray[np.uint8]:
        """The frames, read-only, their pages touched once so that no contender meets a page fault later."""
        frames = np.memmap(self.path, np.uint8, "r", shape=(self.count, self.height, self.width, 3))
        frames.reshape(-1)[::4096].max()
        return frames.view(np.ndarray)

    def as_options(self) -> dict[str, Any]:
        return {"path": str(self.path), "count": self.count, "width": self.width, "height": self.height}

    @classmethod
    def from_options(cls, options: dict[str, Any]) -> FrameFile:
        return cls(Path(options["path"]), options["count"], options["width"], options["height"])

    def remove(self) -> None:
        with suppress(OSError):
            self.path.unlink()


def distinct_frames(wanted: int, width: int, height: int) -> int:
    """How many of the frames wanted are kept apart; playing goes round among them."""
    return max(2, min(wanted, _ROOM // (width * height * 3)))


def render(
    width: int, height: int, wanted: int, *, fps: float, seed: int = 0, progress: Callable[[], object] = lambda: None
) -> FrameFile:
    """Frames of sim://conveyor at the given size, consecutive at `fps`. The caller removes the file.

    Raises ValueError for a size or rate that the twin refuses, OSError where there is no room for the file.
    """
    from edge_vision.simulation import Conveyor, ConveyorOptions

    count = distinct_frames(wanted, width, height)
    scene = Conveyor(ConveyorOptions(width=width, height=height, fps=fps, seed=seed))
    with tempfile.NamedTemporaryFile(prefix="edge_vision_bench_", suffix=".bgr", delete=False) as file:
        made = FrameFile(Path(file.name), count, width, height)
        try:
            for index in range(count):
                file.write(scene.render(index).frame.image.data)
                progress()
        except BaseException:
            made.remove()
            raise
    return made
