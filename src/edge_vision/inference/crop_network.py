"""What networks on crops share: opened from a bundle, run on the boxes of a frame, a row of numbers a box."""

from __future__ import annotations

import contextlib
from typing import ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import Frame
from edge_vision.inference.backends import Session
from edge_vision.inference.bundle import Bundle
from edge_vision.inference.crops import Crops
from edge_vision.inference.decoders import Setup
from edge_vision.inference.decoders import decoder as decoder_module
from edge_vision.inference.errors import BackendError, ModelError
from edge_vision.inference.onnx_header import TensorSpec
from edge_vision.inference.opening import Opened
from edge_vision.inference.selection import AUTO, Log, Wish, open_session

LEAST_SIDE = 2  # px of a box inside the image: what is narrower shows nothing of its object
WARM_UP = 3

N = TypeVar("N", bound="CropNetwork")


class CropNetwork:
    """A network on crops, loaded and warm. One frame at a time: the input tensor is reused.

    width: the length of a row; description: what it runs on and why. Its classes name their task, what they give, for
    messages, and which bundle to give instead.
    """

    TASK: ClassVar[str]
    GIVES: ClassVar[str]
    REMEDY: ClassVar[str]

    def __init__(self, bundle: Bundle, opened: Opened, setup: Setup) -> None:
        """See `load`, which makes the parts. setup: what the decoder was built from."""
        self.bundle = bundle
        self.width = int(setup.sample[0].shape[1])
        self.session: Session | None = opened.session
        self.description = opened.description
        self._network = opened
        self._crops = Crops(opened.input)
        self._batch = opened.input.batch
        self._any_count = self._batch > 1 and _leaves_batch_open(opened)

    @classmethod
    def load(
        cls: type[N],
        bundle: Bundle,
        *,
        backend: str = AUTO,
        device: str = AUTO,
        precision: str = AUTO,
        threads: int = 0,
        hardware: str = AUTO,
        log: Log | None = None,
    ) -> N:
        """Open `bundle`, which must be of the class' task, and run it three times. Arguments as of `Engine.load`.

        Raises ModelError for a bundle of another task, a model that cannot be opened or whose tensors are not what the
        bundle says, BackendError for a runtime that is missing or fails.
        """
        if bundle.task != cls.TASK:
            problem = f"is for the task {bundle.task}, and gives no {cls.GIVES}"
            raise ModelError(bundle.file, problem, cls.REMEDY, "task")
        if bundle.input.resize != "stretch":
            problem = f"is {bundle.input.resize}; crops for {cls.TASK} are resized without padding"
            raise ModelError(bundle.file, problem, "write stretch", "input.resize")
        return cls.open(bundle, open_session(bundle, Wish(backend, device, precision, threads, hardware), log))

    @classmethod
    def open(cls: type[N], bundle: Bundle, opened: Opened) -> N:
        """The network on a session that is open already, which it closes at its end, and where it cannot be made.
        Errors as those of `load`."""
        try:
            spec = opened.input
            noise = np.random.default_rng(0).integers(0, 256, (spec.height, spec.width, 3), dtype=np.uint8)
            whole = np.array([[0, 0, spec.width, spec.height]] * spec.batch, np.float32)
            tensor = Crops(spec).fill(Frame(noise), whole.astype(int).tolist())
            sample = tuple(array.copy() for array in opened.run(tensor))
            specs = tuple(
                TensorSpec(name, array.shape, array.dtype.name)
                for name, array in zip(opened.output_names, sample, strict=True)
            )
            setup = Setup(bundle.file, spec.width, spec.height, specs, sample, bundle.decoder_options)
            decoder_module(bundle.decoder).build(setup)
            if len(sample[0]) != spec.batch:
                problem = f"{spec.batch} crops give {len(sample[0])} rows"
                raise setup.misfit(bundle.decoder, problem, "write input.batch as the model was exported")
            network = cls(bundle, opened, setup)
            for _ in range(WARM_UP - 1):
                network.rows(Frame(noise), whole)
        except Exception:
            opened.session.close()
            raise
        return network

    def rows(self, frame: Frame, boxes: NDArray) -> NDArray[np.float32]:
        """What the network puts out (N, width) float32 for what is inside `boxes` (N, 4) xyxy in the frame's pixels,
        cut at the image's edge and to whole pixels; NaN for boxes that show nothing (not finite, less than 2 px
        inside the image).

        Raises ValueError for an encoding or image that cannot be read, BackendError where the runtime fails.
        """
        if self.session is None:
            raise BackendError(f"the network of {self.bundle.name} is closed", "load it again")
        found = np.full((len(boxes), self.width), np.nan, np.float32)
        shown, corners = _inside(boxes, frame.width, frame.height)
        for first in range(0, len(shown), self._batch):
            part = corners[first : first + self._batch]
            tensor = self._crops.fill(frame, part)
            if self._any_count and len(part) < self._batch:
                tensor = tensor[: len(part)]
            rows = self._network.run(tensor)[0]
            found[shown[first : first + len(part)]] = rows.reshape(len(rows), -1)[: len(part)]
        return found

    def close(self) -> None:
        """Free the runtime's memory; the network cannot run any more. May be called twice."""
        if self.session is not None:
            self.session.close()
            self.session = None

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # never made, or the interpreter is ending
            self.close()

    def __enter__(self: N) -> N:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _leaves_batch_open(opened: Opened) -> bool:
    """Whether the session takes any number of crops at a time."""
    shapes = [spec.shape for spec in opened.session.inputs if spec.name == opened.input.name or len(spec.shape) == 4]
    return bool(shapes) and bool(shapes[0]) and shapes[0][0] is None


def _inside(boxes: NDArray, width: int, height: int) -> tuple[NDArray[np.intp], list[list[int]]]:
    """Which boxes have something inside the image (K,), and that part of each in whole pixels (K of x1, y1, x2, y2)."""
    limit = np.array([width, height, width, height], np.float64)
    cut = np.clip(np.nan_to_num(boxes, nan=0.0), 0, limit)  # NaN gives a box without area
    cut[:, :2] = np.floor(cut[:, :2])
    cut[:, 2:] = np.ceil(cut[:, 2:])
    shown = ((cut[:, 2:] - cut[:, :2]) >= LEAST_SIDE).all(axis=1) & np.isfinite(boxes).all(axis=1)
    rows = shown.nonzero()[0]
    return rows, cut[rows].astype(np.int64).tolist()
