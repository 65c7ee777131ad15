"""The scenes of the digital twin as sources, and what they have in common: ``sim://SCENE?option=value&...``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any

from edge_vision.simulation.options import named_options, scene_of
from edge_vision.sources.base import AUTOMATIC, BaseSource, Sample, SourceError, checked_control

SCENES = {
    "conveyor": ("simulated", "Simulated"),
    "flat": ("flat_field", "SimulatedFlatField"),
    "board": ("board_scene", "SimulatedBoard"),
}
"""What `open_scene` knows: scene, and the module and class that play it."""


def open_scene(uri: str, **arguments: Any) -> BaseSource:
    """The source of a ``sim://`` URI. Raises SourceError for a scene or an option that is not known."""
    scene = scene_of(uri)
    if scene not in SCENES:
        raise SourceError(f"{uri}: unknown scene {scene!r}; known: {', '.join(f'sim://{name}' for name in SCENES)}")
    module, name = SCENES[scene]
    return getattr(import_module(f"edge_vision.sources.{module}"), name)(uri, **arguments)


class SimulatedScene(BaseSource):
    """A scene that is rendered when it is read. Endless, unless the URI says ``frames=`` and ``loop`` does not.

    A scene makes its options in ``_options``, itself in ``_open`` and a frame in ``_sample``. Raises SourceError for an
    option that is not known or out of range.
    """

    what = "scene"

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
        super().__init__(uri)
        named = named_options(uri)
        asked = {"width": width, "height": height, "fps": fps}
        given: dict[str, Any] = {name: value for name, value in asked.items() if value and name not in named}
        try:
            options: Any = replace(self._options(uri), **given)
            self._scene: Any = self._open(options)
        except ValueError as error:
            raise SourceError(str(error)) from error
        self._began_with = options
        self._wanted = {"exposure": options.exposure, "gain": options.gain}
        self._loop = loop
        self._frame_id = frame_id
        self._start = start_stamp  # of the scene's frame 0 in this pass
        self._index = 0
        self._sequence = 0
        self.rate = float(options.fps)
        self.length = None if loop else options.frames
        length = f"{options.frames} frames" if options.frames else "endless"
        self.description = f"simulated {self.what}, {options.width}x{options.height}, {self.rate:g} fps, {length}"

    def _options(self, uri: str) -> Any:
        """The scene's options as a URI gives them. Raises ValueError."""
        raise NotImplementedError

    def _open(self, options: Any) -> Any:
        """The scene. Raises ValueError."""
        raise NotImplementedError

    def _sample(self, index: int, start_stamp: int) -> Sample:
        """Frame ``index`` of the scene."""
        raise NotImplementedError

    def _again(self) -> None:
        """The URI's frames are through, and it loops: most scenes just go on."""

    def read(self) -> Sample | None:
        if self._closed.is_set():
            return None
        if self._index == self._began_with.frames:
            if not self._loop:
                return None
            self._again()
        self._scene.set_sensor(**self._wanted)
        sample = self._sample(self._index, self._start)
        frame_id = self._frame_id or sample.frame.frame_id
        frame = replace(sample.frame, frame_id=frame_id, sequence=self._sequence)
        truth = None if sample.truth is None else replace(sample.truth, frame_id=frame_id)
        self._index += 1
        self._sequence += 1
        return Sample(frame, truth)

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
