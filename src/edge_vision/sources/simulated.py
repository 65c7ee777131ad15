"""Frames of the digital twin: ``sim://conveyor?seed=1&width=640``, with ground truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from edge_vision.datatypes import CameraInfo
from edge_vision.sources.base import AUTOMATIC, BaseSource, Sample, SourceError, checked_control

if TYPE_CHECKING:
    from edge_vision.simulation import ConveyorOptions

SCENES = ("conveyor",)


class Simulated(BaseSource):
    """The conveyor twin: every frame is rendered when it is read. Endless, unless the URI says ``frames=``.

    Raises SourceError for a scene or an option that is not known.
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
        from edge_vision.simulation import Conveyor

        super().__init__(uri)
        options = _options(uri, width=width, height=height, fps=fps)
        self._scene = Conveyor(options)
        self._options = self._began_with = options  # of the next frame, and of the first
        self._frames = options.frames
        self._loop = loop
        self._frame_id = frame_id
        self._start = start_stamp  # of the scene's frame 0 in this pass
        self._index = 0
        self._sequence = 0
        self.rate = float(options.fps)
        self.length = None if loop else options.frames
        length = f"{options.frames} frames" if options.frames else "endless"
        self.description = f"simulated conveyor, {options.width}x{options.height}, {self.rate:g} fps, {length}"

    def read(self) -> Sample | None:
        if self._closed.is_set():
            return None
        if self._index == self._frames:
            if not self._loop:
                return None
            self._start = self._scene.stamp(self._index, self._start)
            self._index = 0
        self._scene.set_sensor(exposure=self._options.exposure, gain=self._options.gain)
        rendered = self._scene.render(self._index, self._start)
        frame_id = self._frame_id or rendered.frame.frame_id
        frame = replace(rendered.frame, frame_id=frame_id, sequence=self._sequence)
        self._index += 1
        self._sequence += 1
        return Sample(frame, replace(rendered.truth, frame_id=frame_id))

    def camera_info(self) -> CameraInfo | None:
        info = self._scene.camera_info()
        return replace(info, frame_id=self._frame_id or info.frame_id)

    def controls(self) -> Mapping[str, float]:
        return {"exposure": self._options.exposure, "gain": self._options.gain}

    def set_control(self, name: str, value: float) -> float:
        """As `Source.set_control`; `AUTOMATIC` is what the URI said."""
        value = checked_control(name, value)
        if value == AUTOMATIC:
            value = getattr(self._began_with, name)
        try:
            changed: dict[str, Any] = {name: value}
            self._options = replace(self._options, **changed)  # taken over by the thread that reads
        except ValueError as error:
            raise SourceError(str(error)) from None
        return value


def _options(uri: str, **arguments: float | None) -> ConveyorOptions:
    """What the URI asks for, and where it leaves something open the arguments."""
    from edge_vision.simulation import ConveyorOptions

    parts = urlsplit(uri)
    scene = parts.netloc or parts.path.strip("/")
    if scene not in SCENES:
        raise SourceError(f"{uri}: unknown scene {scene!r}; known: {', '.join(f'sim://{name}' for name in SCENES)}")
    named = dict(parse_qsl(parts.query, keep_blank_values=True))
    given: dict[str, Any] = {key: value for key, value in arguments.items() if value and key not in named}
    try:
        return replace(ConveyorOptions.from_uri(uri), **given)
    except ValueError as error:
        raise SourceError(str(error)) from error
