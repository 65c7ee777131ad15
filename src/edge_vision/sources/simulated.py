"""Frames of the digital twin: ``sim://conveyor?seed=1&width=640``, with ground truth."""

from __future__ import annotations

from dataclasses import replace

from edge_vision.datatypes import CameraInfo
from edge_vision.simulation import Conveyor, ConveyorOptions
from edge_vision.sources.base import Sample
from edge_vision.sources.scene import SimulatedScene


class Simulated(SimulatedScene):
    """The conveyor twin."""

    what = "conveyor"

    def _options(self, uri: str) -> ConveyorOptions:
        return ConveyorOptions.from_uri(uri)

    def _open(self, options: ConveyorOptions) -> Conveyor:
        return Conveyor(options)

    def _sample(self, index: int, start_stamp: int) -> Sample:
        rendered = self._scene.render(index, start_stamp)
        return Sample(rendered.frame, rendered.truth)

    def _again(self) -> None:
        """The same frames once more."""
        self._start = self._scene.stamp(self._index, self._start)
        self._index = 0

    def camera_info(self) -> CameraInfo | None:
        info = self._scene.camera_info()
        return replace(info, frame_id=self._frame_id or info.frame_id)
