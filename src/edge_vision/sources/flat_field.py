"""Frames of the twin before an even light: ``sim://flat?bits=12``, for sensor measurement."""

from __future__ import annotations

from edge_vision.simulation.flat_field import FlatField, FlatFieldOptions
from edge_vision.sources.base import Sample
from edge_vision.sources.scene import SimulatedScene


class SimulatedFlatField(SimulatedScene):
    """The even scene. Its loops go on: no two frames have the same noise."""

    what = "even light"

    def _options(self, uri: str) -> FlatFieldOptions:
        return FlatFieldOptions.from_uri(uri)

    def _open(self, options: FlatFieldOptions) -> FlatField:
        self.what = f"even light, {options.bits} bit"
        return FlatField(options)

    def _sample(self, index: int, start_stamp: int) -> Sample:
        return Sample(self._scene.render(index, start_stamp))
