"""Magnitude pruning: the smallest weights become zero, at once or little by little while the rest is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_vision.optimize.graphs.editing import constants_to_initialisers, set_initialisers
from edge_vision.optimize.network import Network
from edge_vision.optimize.passes import Context, Outcome, PassError
from edge_vision.optimize.weights.retraining import Retraining, retrained
from edge_vision.optimize.weights.selection import Chosen, Selection, choose, matches
from edge_vision.optimize.weights.sparsity import polynomial, smallest, smallest_of_all, two_of_four

if TYPE_CHECKING:
    import torch

NAME = "prune"
SUMMARY = "the smallest weights become zero: smaller as shipped, no faster on most runtimes"
NEEDS: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Options(Retraining, Selection):
    """sparsity: share of the chosen layers' weights that become zero. layers: another share for layers by name or
    regular expression. scope: `global` ranks the weights of all layers together (by `importance`, lamp or magnitude),
    `layer` takes the share of each. pattern: `2:4` keeps two of every four along the inputs (sparsity is then 0.5),
    which NVIDIA's sparse tensor cores want, and does so at once.

    With `epochs` the rest is trained meanwhile; schedule: `constant` has all zeros from the first step, `polynomial`
    reaches the sparsity at `end` (a share of the training), what is left goes to recovery. Without epochs it is done at
    once. The other options choose layers and say how to train.
    """

    sparsity: float = 0.5
    layers: Mapping[str, float] = field(default_factory=dict)
    scope: Literal["global", "layer"] = "global"
    importance: Literal["lamp", "magnitude"] = "lamp"
    pattern: Literal["unstructured", "2:4"] = "unstructured"
    schedule: Literal["polynomial", "constant"] = "polynomial"
    end: float = 0.6

    def __post_init__(self) -> None:
        Retraining.__post_init__(self)
        Selection.__post_init__(self)
        for name, value in {"sparsity": self.sparsity, **{f"layers.{k}": v for k, v in self.layers.items()}}.items():
            if not 0 <= value < 1:
                raise ValueError(f"{name} is {value}: give the share of weights that become zero, 0 to below 1")
        if not 0 < self.end <= 1:
            raise ValueError(f"end is {self.end}: give a share of the training, above 0 to 1")


def apply(network: Network, options: Options, context: Context) -> Outcome:
    """The network with zeros among its float weights. Raises PassError where no layer can be pruned or trained."""
    proto = network.copied_graph()
    constants_to_initialisers(proto)
    chosen, refused = choose(proto, options)
    if not chosen:
        raise PassError(
            NAME, "there is no layer to prune", "let more layers in: keep_first, keep_depthwise, least_size"
        )
    facts: dict[str, Any] = {}
    if options.epochs:
        fitted, facts = retrained(network.with_graph(proto), options, context, [Pruning(options, chosen)], NAME)
        proto = fitted
        chosen, _ = choose(proto, options)
    before = {c.name: c.weight for c in chosen}
    gone = masks(before, chosen, options, 1.0)
    after = {name: np.where(mask, np.float32(0), before[name]) for name, mask in gone.items()}
    set_initialisers(proto, after)
    shares = {name: round(1 - np.count_nonzero(weight) / weight.size, 4) for name, weight in after.items()}
    sizes = {name: weight.size for name, weight in after.items()}
    facts = {
        "sparsity": round(sum(shares[n] * sizes[n] for n in shares) / sum(sizes.values()), 4),
        "weights": sum(sizes.values()),
        "layers": shares,
        **facts,
    }
    return Outcome(network.with_graph(proto), facts, tuple(refused))


def masks(
    weights: Mapping[str, NDArray], chosen: list[Chosen], options: Options, part: float
) -> dict[str, NDArray[np.bool_]]:
    """True for what is to be zero of each layer's weights, when `part` (0 to 1) of the sparsity is reached."""
    if options.pattern == "2:4":
        return {c.name: two_of_four(weights[c.name], c.input_axis) for c in chosen} if part >= 1 else {}
    named = {c.name: share for c in chosen if (share := _named(c.name, options)) is not None}
    rest = {c.name: weights[c.name] for c in chosen if c.name not in named}
    found = {name: smallest(weights[name], share * part) for name, share in named.items()}
    if options.scope == "global":
        return found | smallest_of_all(rest, options.sparsity * part, options.importance)
    return found | {name: smallest(weight, options.sparsity * part) for name, weight in rest.items()}


def _named(name: str, options: Options) -> float | None:
    return next((share for pattern, share in options.layers.items() if matches(name, [pattern])), None)


@dataclass
class Pruning:
    """The constraint of a training: weights become zero along the schedule and stay so."""

    options: Options
    chosen: list[Chosen] = field(repr=False)
    part: float = field(default=-1.0, repr=False)
    gone: dict[str, torch.Tensor] = field(default_factory=dict, repr=False)
    weights: dict[str, torch.nn.Parameter] = field(default_factory=dict, repr=False)

    def begin(self, weights: Mapping[str, torch.nn.Parameter]) -> None:
        missing = [c.name for c in self.chosen if c.name not in weights]
        if missing:
            raise PassError(NAME, f"{missing[0]} is not trained", "exclude that layer, or prune without epochs")
        self.weights = {c.name: weights[c.name] for c in self.chosen}
        self._update(0.0)

    def before_step(self, progress: float) -> None:
        for name, mask in self.gone.items():
            gradient = self.weights[name].grad
            if gradient is not None:
                gradient.masked_fill_(mask, 0.0)

    def after_step(self, progress: float) -> None:
        self._update(progress)

    def state_dict(self) -> dict[str, Any]:
        return {"part": self.part, "gone": self.gone}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.part, self.gone = float(state["part"]), dict(state["gone"])

    def _update(self, progress: float) -> None:
        """New masks where the schedule has come further by a hundredth, or to its end; then the zeros."""
        import torch

        part = 1.0
        if self.options.schedule == "polynomial" and self.options.pattern != "2:4":
            part = polynomial(progress, 0.0, 1.0, 0.0, self.options.end)
        if part >= self.part + 0.01 or part >= 1.0 > self.part:
            self.part = part
            values = {name: weight.detach().cpu().numpy() for name, weight in self.weights.items()}
            found = masks(values, self.chosen, self.options, part)
            self.gone = {name: torch.from_numpy(m).to(self.weights[name].device) for name, m in found.items()}
        with torch.no_grad():
            for name, mask in self.gone.items():
                self.weights[name].masked_fill_(mask, 0.0)
