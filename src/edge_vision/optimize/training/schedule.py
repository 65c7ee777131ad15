"""How long, how fast and by which rule weights are moved."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from edge_vision.optimize.training.graph import TorchGraph


@dataclass(frozen=True)
class Schedule:
    """epochs; batch: images a step; rate: the highest learning rate, reached after `warm_up` (a share of all steps) and
    falling along a cosine to `final` times itself (Loshchilov and Hutter 2017, arXiv:1608.03983). optimiser: `adamw` or
    `sgd` (Nesterov momentum 0.9). weight_decay: of weights, not of biases and normalisations. clip: largest norm of all
    gradients together, 0 for none. ema: decay of the running average of the weights that is kept in the end, 0 for
    none.
    """

    epochs: int = 10
    batch: int = 32
    rate: float = 1e-3
    optimiser: str = "adamw"
    weight_decay: float = 1e-4
    warm_up: float = 0.05
    final: float = 0.01
    clip: float = 10.0
    ema: float = 0.0

    def __post_init__(self) -> None:
        for name, smallest in (("epochs", 1), ("batch", 1), ("rate", 0.0), ("weight_decay", 0.0), ("clip", 0.0)):
            if not getattr(self, name) >= smallest:
                raise ValueError(f"{name} is {getattr(self, name)}, below {smallest}")
        for name in ("warm_up", "final", "ema"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}, which is not between 0 and 1")
        if self.optimiser not in ("adamw", "sgd"):
            raise ValueError(f"optimiser is {self.optimiser!r}; it can be adamw or sgd")

    def factor(self, progress: float) -> float:
        """Share of the highest rate at a progress of 0 to 1."""
        if progress < self.warm_up:
            return max(progress / self.warm_up, 1e-3)
        along = (progress - self.warm_up) / (1 - self.warm_up)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * min(along, 1.0)))


def optimiser(graph: TorchGraph, others: Iterable[nn.Parameter], schedule: Schedule) -> torch.optim.Optimizer:
    """An optimiser of the graph's parameters and `others` (a loss's own).

    Adam moves every weight by about its rate, however small the weight is. A layer into which a scale was folded
    (pixels 0 to 255 divided in the first convolution) would be thrown about by that, so a weight that is smaller than
    usual for its size (root mean square times the square root of its inputs below 1) is moved by as much less, in
    steps of 2. With SGD the gradient has the inverse of the scale besides, so the square of it is the same.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in graph.parameters_by_name().items():
        role = "scale" if name not in graph.trained else graph.trained[name].role
        decay = schedule.weight_decay if role == "weight" else 0.0
        share = 1.0
        if role == "scale":
            share = min(1.0, float(parameter.detach().abs().max()) * 0.1)
        elif role == "weight":
            share = _share(parameter) if schedule.optimiser == "adamw" else _share(parameter) ** 2
        groups.setdefault((decay, share), []).append(parameter)
    rest = list(others)
    if rest:
        groups.setdefault((0.0, 1.0), []).extend(rest)
    settings = [
        {"params": parameters, "weight_decay": decay, "lr": schedule.rate * share, "share": share}
        for (decay, share), parameters in groups.items()
    ]
    if schedule.optimiser == "sgd":
        return torch.optim.SGD(settings, lr=schedule.rate, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(settings, lr=schedule.rate, fused=True)


def _share(weight: nn.Parameter) -> float:
    inputs = weight[0].numel() if weight.ndim > 2 else weight.shape[-1]
    size = float(weight.detach().square().mean().sqrt()) * math.sqrt(inputs)
    return 2.0 ** math.floor(math.log2(size)) if 0 < size < 1 else 1.0


def set_rate(optimiser: torch.optim.Optimizer, schedule: Schedule, progress: float) -> None:
    """Learning rates for a progress of 0 to 1."""
    for group in optimiser.param_groups:
        group["lr"] = schedule.rate * schedule.factor(progress) * group["share"]
