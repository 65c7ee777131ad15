"""The training loop: one for classifiers, detectors, distillation and quantisation-aware training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import onnx
import torch

from edge_vision.inference.preprocess import InputSpec
from edge_vision.optimize.data import Split
from edge_vision.optimize.passes import Bar, Context
from edge_vision.optimize.training import checkpoint
from edge_vision.optimize.training.constraints import Constraint
from edge_vision.optimize.training.errors import TrainingError
from edge_vision.optimize.training.graph import TorchGraph
from edge_vision.optimize.training.inputs import Augmentation, input_tensor
from edge_vision.optimize.training.losses import Loss
from edge_vision.optimize.training.machine import chosen_device, settings
from edge_vision.optimize.training.normalising import with_normalisation, without_normalisation
from edge_vision.optimize.training.portions import batches, hold_out, sample_of
from edge_vision.optimize.training.schedule import Schedule
from edge_vision.optimize.training.trainer import Fitted, Networks, Trainer

__all__ = ["Fitted", "fit", "hold_out"]


def fit(
    proto: onnx.ModelProto,
    split: Split,
    spec: InputSpec,
    loss: Loss,
    schedule: Schedule,
    *,
    teacher: onnx.ModelProto | None = None,
    constraints: Sequence[Constraint] = (),
    validation: Split | None = None,
    augmentation: Augmentation | None = None,
    work: Path | None = None,
    seed: int = 0,
    threads: int = 0,
    device: str = "auto",
    train_scales: bool = False,
    freeze_statistics: bool = False,
    normalise: bool = False,
    bar: Callable[[str, int], Bar] | None = None,
    title: str = "training",
) -> Fitted:
    """Train a graph's own weights on the images of a split.

    validation: images whose loss (and accuracy, where truth is class ids) is logged after every epoch; nothing is
    chosen by it. work: a folder for `checkpoint.pt` and `training.csv`, written after every epoch; a training that
    finds the checkpoint of one with the same graph, data, loss, schedule, constraints and seed goes on where that one
    stopped, and ends as if it had never stopped (to the bit on the CPU). device: `auto` (a GPU where PyTorch has one),
    `cpu` or `cuda`. normalise: convolutions without batch normalisation have one for the time of the training
    (`normalising`), which is no use for clusters: it is folded in by channels. Raises TrainingError.
    """
    chosen = chosen_device(device)
    if not len(split):
        raise TrainingError("there are no images to train with", "give a training split that is not empty")
    varied = augmentation or Augmentation()
    sign = checkpoint.fingerprint(
        proto.SerializeToString(deterministic=True),
        b"" if teacher is None else teacher.SerializeToString(deterministic=True),
        split,
        validation,
        spec,
        loss.description,
        schedule,
        varied,
        [repr(c) for c in constraints],
        (seed, chosen.type, train_scales, freeze_statistics, normalise),
    )
    with settings(threads):
        shape = spec.shape
        graph = TorchGraph(proto, input_shape=shape, train_scales=train_scales, freeze_statistics=freeze_statistics).to(
            chosen
        )
        added: tuple[str, ...] = ()
        if normalise:
            graph, added = _normalised(graph, split, spec, shape, chosen)
        master = None if teacher is None else TorchGraph(teacher, input_shape=shape).to(chosen).eval()
        run = Networks(graph, master, loss, spec, chosen, classes=not isinstance(split.truth, tuple))
        trainer = Trainer(run, split, validation, schedule, varied, constraints, seed)
        fitted = trainer.train(work, sign, bar or Context(Path()).bar, title)
        return replace(fitted, proto=without_normalisation(fitted.proto, added)) if added else fitted


def _normalised(
    graph: TorchGraph, split: Split, spec: InputSpec, shape: Sequence[int], device: torch.device
) -> tuple[TorchGraph, tuple[str, ...]]:
    """The graph with batch normalisation where it had none, and where."""
    graph.eval()
    proto, added = with_normalisation(
        graph, [input_tensor(split.images[part], spec, device) for part in batches(sample_of(split), 16)]
    )
    return (TorchGraph(proto, input_shape=shape).to(device), added) if added else (graph, added)
