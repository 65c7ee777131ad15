"""Frames of the twin before an even light: ``sim://flat?bits=12``, for sensor measurement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from edge_vision.sources.base import AUTOMATIC, BaseSource, Sample, SourceError, checked_control


class SimulatedFlatField(BaseSource):
    """The even scene, rendered when read. Endless, unless the URI says ``frames=``.

    Raises SourceError for an option that is not known or out of range.
    """

    def __init__(
        self,
        uri: str,
        *,
        width: int | None = None,
        height: int | None = None,
        fps: float | None = None,
        loop: bool = False,
        frame_id: str = "",
        start_stamp: int = 0,
    ) -> None:
        from edge_vision.simulation.flat_field import FlatField, FlatFieldOptions

        super().__init__(uri)
        named = dict(parse_qsl(urlsplit(uri).query, keep_blank_values=True))
        asked = {"width": width, "height": height, "fps": fps}
        given: dict[str, Any] = {name: value for name, value in asked.items() if value and name not in named}
        try:
            options = replace(FlatFieldOptions.from_uri(uri), **given)
        except ValueError as error:
            raise SourceError(str(error)) from error
        self._scene = FlatField(options)
        self._began_with = options
        self._wanted = {"exposure": options.exposure, "gain": options.gain}
        self._loop = loop
        self._frame_id = frame_id
        self._start = start_stamp
        self._index = 0
        self.rate = float(options.fps)
        self.length = None if loop else options.frames
        length = f"{options.frames} frames" if options.frames else "endless"
        size = f"{options.width}x{options.height}"
        self.description = f"simulated even light, {size}, {options.bits} bit, {self.rate:g} fps, {length}"

    def read(self) -> Sample | None:
        if self._closed.is_set() or (not self._loop and self._index == self._began_with.frames):
            return None
        self._scene.set_sensor(**self._wanted)
        frame = self._scene.render(self._index, self._start)
        self._index += 1
        return Sample(replace(frame, frame_id=self._frame_id or frame.frame_id))

    def controls(self) -> Mapping[str, float]:
        return dict(self._wanted)

    def set_control(self, name: str, value: float) -> float:
        """As `Source.set_control`; `AUTOMATIC` is what the URI said."""
        value = checked_control(name, value)
        if value == AUTOMATIC:
            value = getattr(self._began_with, name)
        try:
            changed: dict[str, Any] = {name: value}
            replace(self._began_with, **changed)
        except ValueError as error:
            raise SourceError(str(error)) from None
        self._wanted = {**self._wanted, name: value}  # taken over by the thread that reads
        return value
