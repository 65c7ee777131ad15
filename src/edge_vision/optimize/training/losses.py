"""What is learnt from: labels, a teacher's answers, a teacher's inner tensors. Detectors: `detection_loss`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_vision.optimize.training.errors import TrainingError
from edge_vision.optimize.training.graph import TorchGraph

Tensors = Mapping[str, Tensor]


class Loss(nn.Module):
    """Base: `student_tensors` and `teacher_tensors` name what `forward(student, teacher, truth)` wants of the graphs.

    `prepare` is called once with the graphs and a sample of inputs before training. A loss may have parameters of its
    own (adaptors); they are trained along and kept in checkpoints. `description` says all that makes two losses differ.
    """

    description = "loss"
    wants_boxes = False
    """Whether `truth` is boxes of a detector, (B, M, 5) class and xyxy in pixels of the input, class -1 for none."""

    def prepare(self, student: TorchGraph, teacher: TorchGraph | None, sample: Sequence[Tensor]) -> None:
        """Names, sizes and statistics of what will be compared."""

    @property
    def student_tensors(self) -> tuple[str, ...]:
        return ()

    @property
    def teacher_tensors(self) -> tuple[str, ...]:
        return ()

    def forward(self, student: Tensors, teacher: Tensors, truth: Tensor | None) -> Tensor:
        """The loss, a scalar, averaged over the images of a batch."""
        raise NotImplementedError


def logits_of(graph: TorchGraph) -> str:
    """Name of a classifier's logits: its output, or what goes into the Softmax before it."""
    name = graph.outputs[0]
    at = name
    while (node := graph.producers.get(at)) is not None:
        if node.op_type == "Softmax":
            return node.input[0]
        if node.op_type not in ("Identity", "QuantizeLinear", "DequantizeLinear", "Reshape", "Flatten", "Squeeze"):
            break
        at = node.input[0]
    return name


def required(teacher: TorchGraph | None, what: str) -> TorchGraph:
    if teacher is None:
        raise TrainingError(f"{what} needs a teacher", "give one, or learn from labels alone")
    return teacher


class CrossEntropy(Loss):
    """Labels of images, (N,) int64, with label smoothing (Szegedy et al. 2016, arXiv:1512.00567)."""

    def __init__(self, smoothing: float = 0.0) -> None:
        super().__init__()
        self.smoothing = smoothing
        self.description = f"cross-entropy, smoothing {smoothing}"
        self.logits = ""

    def prepare(self, student: TorchGraph, teacher: TorchGraph | None, sample: Sequence[Tensor]) -> None:
        self.logits = logits_of(student)

    @property
    def student_tensors(self) -> tuple[str, ...]:
        return (self.logits,)

    def forward(self, student: Tensors, teacher: Tensors, truth: Tensor | None) -> Tensor:
        if truth is None:
            raise TrainingError("cross-entropy needs a class id for every image", "take a classifier's data")
        return F.cross_entropy(student[self.logits].flatten(1), truth, label_smoothing=self.smoothing)


class Distillation(Loss):
    """A teacher's class probabilities at a temperature (Hinton et al. 2015, arXiv:1503.02531): T^2 KL(teacher,
    student)."""

    def __init__(self, temperature: float = 4.0) -> None:
        super().__init__()
        self.temperature = temperature
        self.description = f"distillation, temperature {temperature}"
        self.names = ("", "")

    def prepare(self, student: TorchGraph, teacher: TorchGraph | None, sample: Sequence[Tensor]) -> None:
        self.names = logits_of(student), logits_of(required(teacher, "distillation"))

    @property
    def student_tensors(self) -> tuple[str, ...]:
        return (self.names[0],)

    @property
    def teacher_tensors(self) -> tuple[str, ...]:
        return (self.names[1],)

    def forward(self, student: Tensors, teacher: Tensors, truth: Tensor | None) -> Tensor:
        mine, theirs = student[self.names[0]].flatten(1), teacher[self.names[1]].flatten(1)
        if mine.shape != theirs.shape:
            raise TrainingError(
                f"student and teacher tell {mine.shape[1]} and {theirs.shape[1]} classes apart",
                "take a teacher of the same labels",
            )
        t = self.temperature
        divergence = F.kl_div(
            F.log_softmax(mine / t, 1), F.log_softmax(theirs / t, 1), log_target=True, reduction="batchmean"
        )
        return divergence * t * t


class FeatureMatching(Loss):
    """Inner tensors of the student made like the teacher's (Romero et al. 2015, arXiv:1412.6550).

    pairs: (student's tensor, teacher's tensor). Where channels differ a 1x1 convolution is learnt in between, where
    sizes do the teacher's is averaged to the student's. Differences count in standard deviations of the teacher's
    channels, so that pairs and channels weigh alike.
    """

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self.pairs = tuple(pairs)
        self.description = f"features {self.pairs}"
        self.adaptors: Any = nn.ModuleList()
        self.spreads: list[Tensor] = []

    def prepare(self, student: TorchGraph, teacher: TorchGraph | None, sample: Sequence[Tensor]) -> None:
        master = required(teacher, "matching features")
        self.spreads = []
        self.adaptors = nn.ModuleList()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for mine, theirs in self.pairs:
                a = student.compute(sample[0], (mine,))[mine]
                parts = [master.compute(images, (theirs,))[theirs] for images in sample]
                b = torch.cat(parts)
                if a.ndim != b.ndim or a.ndim not in (2, 4):
                    raise TrainingError(
                        f"'{mine}' {list(a.shape)} and '{theirs}' {list(b.shape)} cannot be matched",
                        "name two tensors (N, C) or (N, C, H, W)",
                    )
                axes = [0] if b.ndim == 2 else [0, 2, 3]
                spread = b.std(axes, keepdim=True)
                self.spreads.append(spread.clamp(min=1e-3 * float(spread.max()) + 1e-6))
                if a.shape[1] == b.shape[1]:
                    self.adaptors.append(nn.Identity())
                    continue
                adaptor: Any = (
                    nn.Conv2d(a.shape[1], b.shape[1], 1) if a.ndim == 4 else nn.Linear(a.shape[1], b.shape[1])
                )
                nn.init.zeros_(adaptor.bias)
                adaptor.weight.normal_(0, a.shape[1] ** -0.5, generator=generator)
                self.adaptors.append(adaptor.to(a.device))

    @property
    def student_tensors(self) -> tuple[str, ...]:
        return tuple(mine for mine, _ in self.pairs)

    @property
    def teacher_tensors(self) -> tuple[str, ...]:
        return tuple(theirs for _, theirs in self.pairs)

    def forward(self, student: Tensors, teacher: Tensors, truth: Tensor | None) -> Tensor:
        total: Any = 0.0
        for (mine, theirs), adaptor, spread in zip(self.pairs, self.adaptors, self.spreads, strict=True):
            a, b = adaptor(student[mine]), teacher[theirs]
            if a.shape[2:] != b.shape[2:]:
                b = F.adaptive_avg_pool2d(b, a.shape[2:])
            total = total + ((a - b) / spread).square().mean()
        return total / max(len(self.pairs), 1)


class Combined(Loss):
    """A weighted sum of losses; those of weight 0 are left out."""

    def __init__(self, *parts: tuple[float, Loss]) -> None:
        super().__init__()
        kept = [(weight, loss) for weight, loss in parts if weight]
        self.factors = [weight for weight, _ in kept]
        self.losses: Any = nn.ModuleList(loss for _, loss in kept)
        self.description = " + ".join(f"{weight} x ({loss.description})" for weight, loss in kept)
        self.wants_boxes = any(loss.wants_boxes for _, loss in kept)

    def prepare(self, student: TorchGraph, teacher: TorchGraph | None, sample: Sequence[Tensor]) -> None:
        for loss in self.losses:
            loss.prepare(student, teacher, sample)

    @property
    def student_tensors(self) -> tuple[str, ...]:
        return tuple(name for loss in self.losses for name in loss.student_tensors)

    @property
    def teacher_tensors(self) -> tuple[str, ...]:
        return tuple(name for loss in self.losses for name in loss.teacher_tensors)

    def forward(self, student: Tensors, teacher: Tensors, truth: Tensor | None) -> Tensor:
        total: Any = 0.0
        for factor, loss in zip(self.factors, self.losses, strict=True):
            total = total + factor * loss(student, teacher, truth)
        return total
