"""The steps that a graph is run by: which are needed for some tensors, and when a tensor is needed no more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from torch import Tensor
from torch.nn import functional as F

_OVERWRITTEN = {"Conv", "ConvTranspose", "BatchNormalization", "Add"}
"""Operators that need not their result for their gradient: what follows may write over it."""


@dataclass(frozen=True)
class Step:
    """One call of a function. inputs, outputs: names of tensors ("" for an output nobody has)."""

    node: onnx.NodeProto
    function: Callable[..., Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def call(step: Step, inputs: Sequence[Tensor], training: bool = False) -> Sequence[Tensor]:
    """Results of a step. training: whether batch normalisation uses the batch's statistics."""
    if step.node.op_type == "BatchNormalization":
        return (step.function(*inputs, training),)
    result = step.function(*inputs)
    return result if isinstance(result, (tuple, list)) else (result,)


Programme = list[tuple[Step, tuple[str, ...]]]
"""Steps, each with the tensors that nobody needs after it."""


def programme_of(steps: Sequence[Step], wanted: tuple[str, ...]) -> Programme:
    """The steps that these tensors need. Activations write over their input where nobody else reads it."""
    needed = set(wanted)
    chosen: list[Step] = []
    for step in reversed(steps):
        if needed.intersection(step.outputs):
            chosen.append(step)
            needed.update(step.inputs)
    chosen.reverse()
    readers: dict[str, int] = {}
    for step in chosen:
        for name in step.inputs:
            readers[name] = readers.get(name, 0) + 1
    kinds = {name: step.node.op_type for step in chosen for name in step.outputs}
    programme = []
    left = dict(readers)
    for step in chosen:
        name = step.inputs[0] if step.inputs else ""
        alone = readers.get(name) == 1 and name not in wanted and kinds.get(name) in _OVERWRITTEN
        if step.function is F.relu and alone:
            step = Step(step.node, torch.relu_, step.inputs, step.outputs)
        elif step.function is F.relu6 and alone:
            step = Step(step.node, lambda x: F.hardtanh_(x, 0.0, 6.0), step.inputs, step.outputs)
        gone = []
        for name in step.inputs:
            left[name] -= 1
            if not left[name] and name in kinds and name not in wanted:
                gone.append(name)
        programme.append((step, tuple(dict.fromkeys(gone))))
    return programme
