"""What training must keep of the weights: zeros that are there, values that are shared.

Weights are looked at as they are when training begins, so nothing has to be handed on from the pass that made the zeros
or the clusters. Weights of quantised graphs are trained as floats that stand for codes; what is equal there is equal as
a code, and a zero has the code of zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor


class Constraint(Protocol):
    """begin(weights by initialiser) is called once, with the weights that training begins with, also when it is
    resumed; before_step(progress) when gradients are there, after_step(progress) when weights have moved. progress
    grows from 0 to 1. One with `state_dict()` and `load_state_dict(state)` has its state kept in checkpoints."""

    def begin(self, weights: Mapping[str, torch.nn.Parameter]) -> None: ...

    def before_step(self, progress: float) -> None: ...

    def after_step(self, progress: float) -> None: ...


@dataclass
class KeepZeros:
    """Zeros stay zero, in weights with at least `least` (a share) of them.

    The default leaves the single zeros alone that any weight has; they say nothing.
    """

    least: float = 0.02
    masks: list[tuple[torch.nn.Parameter, Tensor]] = field(default_factory=list, repr=False)
    names: list[str] = field(default_factory=list, repr=False)

    def begin(self, weights: Mapping[str, torch.nn.Parameter]) -> None:
        self.masks, self.names = [], []
        for name, weight in weights.items():
            mask = weight.detach() != 0
            if 1 - float(mask.float().mean()) >= max(self.least, 1e-9):
                self.masks.append((weight, mask.to(weight.dtype)))
                self.names.append(name)

    def before_step(self, progress: float) -> None:
        for weight, mask in self.masks:
            if weight.grad is not None:
                weight.grad *= mask

    def after_step(self, progress: float) -> None:
        with torch.no_grad():
            for weight, mask in self.masks:
                weight.mul_(mask)


@dataclass
class KeepClusters:
    """Equal weights stay equal: their gradients are averaged, so that they move together (Han et al. 2016,
    arXiv:1510.00149). Zero stays zero.

    Of weights with at most `most` distinct values, each of which is there four times on average; `only` limits it to
    some initialisers. Under `least_size` weights nothing is held to be a cluster.
    """

    most: int = 256
    only: tuple[str, ...] | None = None
    least_size: int = 32
    groups: list[tuple[torch.nn.Parameter, Tensor, Tensor]] = field(default_factory=list, repr=False)
    names: list[str] = field(default_factory=list, repr=False)

    def begin(self, weights: Mapping[str, torch.nn.Parameter]) -> None:
        self.groups, self.names = [], []
        for name, weight in weights.items():
            if weight.numel() < self.least_size or (self.only is not None and name not in self.only):
                continue
            values, members, counts = torch.unique(weight.detach().reshape(-1), return_inverse=True, return_counts=True)
            if len(values) > self.most or 4 * len(values) > weight.numel():
                continue
            share = torch.where(values == 0, torch.zeros_like(values), 1.0 / counts)
            self.groups.append((weight, members, share))
            self.names.append(name)

    def before_step(self, progress: float) -> None:
        for weight, members, share in self.groups:
            if weight.grad is None:
                continue
            total = torch.zeros_like(share).index_add_(0, members, weight.grad.reshape(-1))
            weight.grad = (total * share)[members].reshape(weight.shape)

    def after_step(self, progress: float) -> None:
        """Nothing: members of a cluster had the same gradients all the time, so they have made the same steps."""


def keep_zeros(least: float = 0.02) -> KeepZeros:
    """See `KeepZeros`."""
    return KeepZeros(least)


def keep_clusters(most: int = 256, only: tuple[str, ...] | None = None) -> KeepClusters:
    """See `KeepClusters`."""
    return KeepClusters(most, only)
