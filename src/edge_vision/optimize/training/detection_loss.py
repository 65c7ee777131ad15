"""Distillation of detectors: a student learns a teacher's raw outputs, whatever decoder reads them, without labels.

Outputs mix units: probabilities beside box coordinates in cells or in pixels. Channels that the teacher keeps within 0
and 1 are scores and are learnt as probabilities; all others count in standard deviations of the teacher. Few cells show
an object: boxes count by the teacher's confidence in their cell, and the sum is divided by that confidence, as usual
detection losses divide by their number of objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
import torch
from torch import Tensor
from torch.nn import functional as F

from edge_vision.optimize.training.errors import TrainingError
from edge_vision.optimize.training.graph import TorchGraph
from edge_vision.optimize.training.losses import Loss, Tensors, required
from edge_vision.optimize.training.parameters import WEIGHTED, layer_before

OBJECTNESS = {"yolox": 4, "yolov5": 4, "fastestdet": 0}
"""Decoders whose rows have an objectness, and its channel: there class scores say nothing where no object is."""


def head_tensors(graph: TorchGraph) -> tuple[str, ...]:
    """Results of the last layers before a detector's tail, biases added: logits and box terms before sigmoids,
    exponentials and concatenations, in the order in which the tail reads them."""
    found: dict[str, None] = {}
    waiting, seen = list(reversed(graph.outputs)), set()
    while waiting:
        name = waiting.pop()
        node = graph.producers.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if _is_layer(graph, node) or _is_biased_layer(graph, node):
            if name in graph.shapes:
                found[name] = None
        else:
            waiting += list(reversed(node.input))
    return tuple(found)


def _is_layer(graph: TorchGraph, node: onnx.NodeProto) -> bool:
    """Whether a node has weights that are trained."""
    return node.op_type in WEIGHTED and any(graph.made_of(name) for name in node.input)


def _is_biased_layer(graph: TorchGraph, node: onnx.NodeProto) -> bool:
    """Whether a node adds a layer's bias to its result, which may have been turned in between."""
    if node.op_type != "Add":
        return False
    sides = [name for name in node.input if name not in graph.trained]
    return len(sides) == 1 and layer_before(graph.producers, sides[0]) is not None


def by_cells(output: Tensor) -> Tensor:
    """An output as (B, cells, channels). (B, C, H, W) has channels second; of three axes the shorter is the
    channels'."""
    if output.ndim == 4:
        return output.flatten(2).transpose(1, 2)
    if output.ndim == 3:
        return output if output.shape[2] <= output.shape[1] else output.transpose(1, 2)
    if output.ndim == 2:
        return output[:, None, :]
    raise TrainingError(f"an output of shape {list(output.shape)} cannot be distilled", "learn from inner tensors")


class DetectorDistillation(Loss):
    """The teacher's raw outputs, and with `heads` > 0 the results of the last convolutions before the tail as well.

    objectness: channel of the outputs' rows that says whether there is an object at all (see `OBJECTNESS`), None where
    the class scores say it. box: weight of what is no score; with 1, where objects are is learnt long before how large
    they are (conveyor_parts with a quarter of its channels gone, after 800 images: mAP50-95 0.61 with 1, 0.73 with 8,
    0.75 with 16). heads: weight of the convolutions' results, which are left out where student and teacher do not have
    the same of them.
    """

    def __init__(self, objectness: int | None = None, *, box: float = 16.0, heads: float = 0.0) -> None:
        super().__init__()
        self.objectness, self.box, self.heads = objectness, box, heads
        self.description = f"detector distillation, objectness {objectness}, box {box}, heads {heads}"
        self.outputs: tuple[tuple[str, str], ...] = ()
        self.pairs: tuple[tuple[str, str], ...] = ()
        self.scores: list[Tensor] = []
        self.spreads: list[Tensor] = []
        self.head_spreads: list[Tensor] = []

    def prepare(self, student: TorchGraph, teacher: TorchGraph | None, sample: Sequence[Tensor]) -> None:
        master = required(teacher, "training a detector")
        self.outputs = tuple(zip(student.outputs, master.outputs, strict=False))
        mine, theirs = head_tensors(student), head_tensors(master)
        alike = [a[1:] for a in (student.shapes[n] for n in mine)] == [master.shapes[n][1:] for n in theirs]
        self.pairs = tuple(zip(mine, theirs, strict=True)) if self.heads and alike else ()
        for name, other in self.outputs:
            a, b = student.shapes[name], master.shapes[other]
            if a[1:] != b[1:] or len(student.outputs) != len(master.outputs):
                raise TrainingError(
                    f"'{name}' {list(a)} of the student is not like '{other}' {list(b)} of the teacher",
                    "take a teacher with the same outputs, input size and labels",
                )
        with torch.no_grad():
            answers = [master.compute(images, self.teacher_tensors) for images in sample]
        self.measure(answers)

    def measure(self, answers: Sequence[Tensors]) -> None:
        """Which channels are scores, and the spread of the others where the teacher sees objects."""
        rows = [torch.cat([by_cells(a[name]) for a in answers]) for _, name in self.outputs]
        self.scores, self.spreads, self.head_spreads = [], [], []
        for values in rows:
            flat = values.flatten(0, 1)
            low, high = flat.amin(0), flat.amax(0)
            self.scores.append((low >= 0) & (high <= 1) & (high > low))
        for values, confidence in zip(rows, self._confidences(rows), strict=True):
            weight = confidence[..., None]
            mean = (values * weight).sum((0, 1)) / weight.sum()
            spread = ((values - mean).square() * weight).sum((0, 1)).div(weight.sum()).sqrt()
            self.spreads.append(spread.clamp(min=1e-4 * float(spread.max()) + 1e-6))
        for _, name in self.pairs:
            values = torch.cat([by_cells(a[name]) for a in answers]).flatten(0, 1)
            spread = values.std(0)
            self.head_spreads.append(spread.clamp(min=1e-4 * float(spread.max()) + 1e-6))

    def _confidences(self, rows: Sequence[Tensor]) -> list[Tensor]:
        """(B, cells) for each output: that of its own scores, or of an output with as many cells, or 1."""
        own: list[Tensor | None] = []
        for values, scores in zip(rows, self.scores, strict=True):
            if self.objectness is not None and self.objectness < len(scores) and bool(scores[self.objectness]):
                own.append(values[..., self.objectness])
            else:
                own.append(values[..., scores].amax(2) if bool(scores.any()) else None)
        found = []
        for values, confidence in zip(rows, own, strict=True):
            alike = [c for c in own if c is not None and c.shape == values.shape[:2]]
            if confidence is None:
                confidence = alike[0] if alike else torch.ones_like(values[..., 0])
            found.append(confidence)
        return found

    @property
    def student_tensors(self) -> tuple[str, ...]:
        return tuple(mine for mine, _ in (*self.outputs, *self.pairs))

    @property
    def teacher_tensors(self) -> tuple[str, ...]:
        return tuple(theirs for _, theirs in (*self.outputs, *self.pairs))

    def forward(self, student: Tensors, teacher: Tensors, truth: Tensor | None) -> Tensor:
        mine = [by_cells(student[name]) for name, _ in self.outputs]
        theirs = [by_cells(teacher[name]) for _, name in self.outputs]
        confidences = self._confidences(theirs)
        total: Any = 0.0
        for a, b, confidence, scores, spread in zip(mine, theirs, confidences, self.scores, self.spreads, strict=True):
            objects = confidence.sum().clamp(min=1.0)
            if bool(scores.any()):
                total = total + self._scores(a, b, confidence, scores) / objects
            others = ~scores
            if self.box and bool(others.any()):
                difference = F.smooth_l1_loss(
                    a[..., others] / spread[others], b[..., others] / spread[others], reduction="none"
                )
                total = total + self.box * (difference.mean(2) * confidence).sum() / objects
        return total + self.heads * self._heads(student, teacher, confidences) if self.pairs else total

    def _scores(self, a: Tensor, b: Tensor, confidence: Tensor, scores: Tensor) -> Tensor:
        """Cross-entropy of probabilities less the teacher's entropy, so that an equal student has 0."""
        a, b = a[..., scores].clamp(1e-6, 1 - 1e-6), b[..., scores].clamp(1e-6, 1 - 1e-6)
        divergence = b * (b / a).log() + (1 - b) * ((1 - b) / (1 - a)).log()
        if self.objectness is None:
            return divergence.sum()
        place = int(scores[: self.objectness].sum())
        weight = confidence[..., None].expand_as(divergence).clone()
        weight[..., place] = 1.0
        return (divergence * weight).sum()

    def _heads(self, student: Tensors, teacher: Tensors, confidences: Sequence[Tensor]) -> Tensor:
        """Squared differences of logits and box terms, by the confidence in their cell where levels follow each other
        in the outputs' rows."""
        levels: dict[tuple[int, ...], int] = {}
        for _, name in self.pairs:
            size = tuple(teacher[name].shape[2:])
            levels.setdefault(size, size[0] * size[-1] if size else 1)
        confidence, begins, start = confidences[0], {}, 0
        for size, cells in levels.items():
            begins[size] = start
            start += cells
        whole = start == confidence.shape[1]
        total: Any = 0.0
        for (mine, theirs), spread in zip(self.pairs, self.head_spreads, strict=True):
            a, b = by_cells(student[mine]), by_cells(teacher[theirs])
            size = tuple(teacher[theirs].shape[2:])
            difference = ((a - b) / spread).square().mean(2)
            if whole:
                # The mean over all cells keeps the background where it is; objects count beside it.
                weight = confidence[:, begins[size] : begins[size] + levels[size]]
                total = total + (difference * weight).sum() / weight.sum().clamp(min=1.0)
            total = total + difference.mean()
        return total / len(self.pairs)
