"""The engine: a bundle opened by a backend, from a frame to detections in its pixels."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import Detections, Frame, Labels
from edge_vision.inference.backends import Session
from edge_vision.inference.bundle import Bundle, Thresholds
from edge_vision.inference.decoders import Built, Setup
from edge_vision.inference.decoders import decoder as decoder_module
from edge_vision.inference.errors import BackendError, ModelError
from edge_vision.inference.labels import default_labels
from edge_vision.inference.nms import non_maximum_suppression
from edge_vision.inference.onnx_header import TensorSpec
from edge_vision.inference.opening import Opened
from edge_vision.inference.preprocess import Geometry, Preprocessor
from edge_vision.inference.selection import AUTO, Log, Wish, open_session

OTHER_TASKS = {
    "re-identification": "tracking takes this one as its appearance_model",
    "classify": "`Classifier.load` (edge_vision.inference.classifier) runs this one",
}
LEAST_WARM_UP = 3  # the first call takes three to five times as long as the later ones


@dataclass(frozen=True, slots=True)
class Prepared:
    """A frame as the network takes it: the tensor (valid until the next `preprocess`), where the image lies in it, and
    whose it is."""

    tensor: NDArray
    geometry: Geometry
    stamp: int
    frame_id: str


@dataclass(frozen=True, slots=True)
class _Limits:
    """What may change while the engine runs, replaced as a whole."""

    thresholds: Thresholds
    allowed: NDArray[np.bool_] | None  # (classes,), None for all


class Engine:
    """A detector, loaded and warm. One frame at a time: the input tensor is reused, and raw outputs may be.

    `infer` is `preprocess`, `run` and `postprocess`; whoever wants the time of each calls the three.
    """

    def __init__(self, bundle: Bundle, opened: Opened, built: Built) -> None:
        """See `Engine.load`, which makes the parts."""
        self.bundle = bundle
        self.session: Session | None = opened.session
        self.description = opened.description
        self.labels: Labels = bundle.labels
        self.final = not built.suppress  # the outputs are detections, selected in the graph
        self._decode = built.decode
        self._open_ended = built.classes is None
        self._network = opened
        self._preprocessor = Preprocessor(opened.input)
        self._limits = _Limits(bundle.thresholds, None)

    @classmethod
    def load(
        cls,
        bundle: Bundle,
        *,
        backend: str = AUTO,
        device: str = AUTO,
        precision: str = AUTO,
        threads: int = 0,
        hardware: str = AUTO,
        score_threshold: float | None = None,
        iou_threshold: float | None = None,
        max_detections: int | None = None,
        classes: Sequence[int | str] | None = None,
        warm_up: int = LEAST_WARM_UP,
        log: Log | None = None,
    ) -> Engine:
        """Open `bundle` and run it at least three times.

        backend, device, precision: names, or `auto` for the fastest that is proven right, of those that the hardware
        profile lists: measured once, for some seconds, and remembered; threads: 0 for the profile's rule (all cores but
        one, at most four); hardware: a profile's name or `auto`. The thresholds are the bundle's unless given; classes:
        names or ids of those to report. log: is told, a line at a time, of a measurement.

        Raises ModelError for a model that cannot be opened or whose tensors are not what the bundle says,
        BackendError for a runtime that is missing or fails, ValueError for a threshold or class that does not
        exist.
        """
        if bundle.task != "detect":
            remedy = "give a detector; " + OTHER_TASKS.get(bundle.task, "this one is for something else")
            raise ModelError(bundle.file, f"is for {bundle.task}, which finds no boxes", remedy, "task")
        wish = Wish(backend, device, precision, threads, hardware)
        limits = score_threshold, iou_threshold, classes, max_detections
        return cls.open(bundle, open_session(bundle, wish, log), limits, warm_up)

    @classmethod
    def open(
        cls,
        bundle: Bundle,
        opened: Opened,
        limits: tuple[float | None, float | None, Sequence[int | str] | None, int | None] = (None, None, None, None),
        warm_up: int = LEAST_WARM_UP,
    ) -> Engine:
        """The engine on a session that is open already, which it closes at its end, and where it cannot be made.

        limits: as `set_thresholds` takes them. Errors as those of `load`.
        """
        try:
            spec = opened.input
            noise = np.random.default_rng(0).integers(0, 256, (spec.height, spec.width, 3), dtype=np.uint8)
            tensor, _ = Preprocessor(spec)(Frame(noise))
            sample = tuple(array.copy() for array in opened.run(tensor))
            specs = tuple(
                TensorSpec(name, array.shape, array.dtype.name)
                for name, array in zip(opened.output_names, sample, strict=True)
            )
            setup = Setup(bundle.file, spec.width, spec.height, specs, sample, bundle.decoder_options)
            built = decoder_module(bundle.decoder).build(setup)
            labels = bundle.labels or default_labels(built.classes or 0)
            if built.classes is not None and len(labels) != built.classes:
                remedy = "list one name a class, in the order of training"
                problem = f"{len(labels)} names for {built.classes} classes of the outputs"
                raise ModelError(bundle.file, problem, remedy, "labels")
            engine = cls(replace(bundle, labels=labels), opened, built)
            engine.set_thresholds(*limits)
            for _ in range(max(warm_up, LEAST_WARM_UP) - 1):
                engine.infer(Frame(noise))
        except Exception:
            opened.session.close()
            raise
        return engine

    @property
    def thresholds(self) -> Thresholds:
        """The thresholds in force."""
        return self._limits.thresholds

    def set_thresholds(
        self,
        score: float | None = None,
        iou: float | None = None,
        classes: Sequence[int | str] | None = None,
        max_detections: int | None = None,
    ) -> None:
        """Change thresholds while running; None leaves one as it is, an empty `classes` reports all again.

        Raises ValueError, and changes nothing, for a value out of range or a class that the model does not have.
        """
        thresholds, allowed = self._limits.thresholds, self._limits.allowed
        for name, value in (("score", score), ("iou", iou)):
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"the {name} threshold {value} is not between 0 and 1")
        if score is not None:
            thresholds = replace(thresholds, score=float(score))
        if iou is not None:
            thresholds = replace(thresholds, iou=float(iou))
        if max_detections is not None:
            if max_detections < 1:
                raise ValueError(f"max_detections is {max_detections}; give at least 1")
            thresholds = replace(thresholds, max_detections=int(max_detections))
        if classes is not None:
            allowed = self._mask(classes) if len(classes) else None
        self._limits = _Limits(thresholds, allowed)

    def _mask(self, classes: Sequence[int | str]) -> NDArray[np.bool_]:
        allowed = np.zeros(len(self.labels), bool)
        for name in classes:
            index = self.labels.index(name) if isinstance(name, str) and name in self.labels else name
            if not isinstance(index, (int, np.integer)) or not 0 <= index < len(self.labels):
                known = ", ".join(self.labels[:20]) + (", ..." if len(self.labels) > 20 else "")
                raise ValueError(f"the model has no class {name!r}; it has {len(self.labels)}: {known}")
            allowed[index] = True
        return allowed

    def preprocess(self, frame: Frame) -> Prepared:
        """The network's input for `frame`. Raises ValueError, with the remedy, for an encoding or image that cannot be
        read."""
        tensor, geometry = self._preprocessor(frame)
        return Prepared(tensor, geometry, frame.stamp, frame.frame_id)

    def run(self, prepared: Prepared) -> list[NDArray]:
        """The raw outputs, valid until the next run. Raises BackendError where the runtime fails."""
        if self.session is None:
            raise BackendError(f"the engine of {self.bundle.name} is closed", "load it again")
        return self._network.run(prepared.tensor)

    def postprocess(self, raw: Sequence[NDArray], prepared: Prepared) -> Detections:
        """Detections by falling score, boxes in source pixels limited to the image; those without area in it are
        dropped."""
        limits = self._limits
        thresholds = limits.thresholds
        boxes, scores, class_ids = self._decode(raw, thresholds.score)
        if self._open_ended and len(class_ids):
            self._name(int(class_ids.max()))
        if limits.allowed is not None:
            keep = (class_ids < len(limits.allowed)) & limits.allowed.take(class_ids, mode="clip")
            boxes, scores, class_ids = boxes[keep], scores[keep], class_ids[keep]
        if len(scores):
            place = prepared.geometry
            if not self.final:
                kept = non_maximum_suppression(
                    boxes, scores, class_ids, thresholds.iou, thresholds.max_detections, thresholds.class_agnostic
                )
            else:
                kept = np.argsort(-scores, kind="stable")[: thresholds.max_detections]
            boxes = place.clip(place.to_source(boxes.take(kept, 0)))
            scores, class_ids = scores.take(kept), class_ids.take(kept)
            inside = boxes[:, 2:] > boxes[:, :2]
            if not inside.all():  # found in the padding
                has_area = inside.all(1)
                boxes, scores, class_ids = boxes[has_area], scores[has_area], class_ids[has_area]
        return Detections(boxes, scores, class_ids, self.labels, None, prepared.stamp, prepared.frame_id)

    def _name(self, largest: int) -> None:
        """Make sure that there is a name for every class id up to `largest`, where the outputs do not tell how many
        there are."""
        if largest >= len(self.labels):
            self.labels = (*self.labels, *(f"class_{index}" for index in range(len(self.labels), largest + 1)))

    def infer(self, frame: Frame) -> Detections:
        """`frame` to detections; errors as in `preprocess` and `run`."""
        prepared = self.preprocess(frame)
        return self.postprocess(self.run(prepared), prepared)

    def close(self) -> None:
        """Free the runtime's memory; the engine cannot run any more. May be called twice."""
        if self.session is not None:
            self.session.close()
            self.session = None

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # never made, or the interpreter is ending
            self.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
