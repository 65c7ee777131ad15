"""Weight clustering: few different values for many weights, so that a weight is shipped as a number of few bits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_vision.optimize.graphs.editing import constants_to_initialisers, set_initialisers
from edge_vision.optimize.graphs.running import tensors
from edge_vision.optimize.network import Network
from edge_vision.optimize.passes import Context, Outcome, PassError
from edge_vision.optimize.weights.clusters import clustered, error
from edge_vision.optimize.weights.retraining import Retraining, retrained
from edge_vision.optimize.weights.selection import Chosen, Selection, choose, matches
from edge_vision.optimize.weights.statistics import Moments, importance_of, input_moments

NAME = "cluster"
SUMMARY = "few different values for many weights: smaller as shipped, no faster"
NEEDS: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Options(Retraining, Selection):
    """clusters: most different values of a weight tensor. layers: other numbers for layers by name or regular
    expression. groups: the output channels are parted into so many groups with values of their own. init: where k-means
    begins: `optimal` (the best clusters of a fine histogram, by dynamic programming), `kmeans++`, `linear`, `density`
    or `random`. keep_sparsity: zeros stay zero, and zero is one of the values. importance: a weight's error counts the
    same, or by what its `inputs` carry on `images` calibration images.

    With `epochs` the values are trained: weights of one cluster move together. The other options choose layers and say
    how to train.
    """

    clusters: int = 32
    layers: Mapping[str, int] = field(default_factory=dict)
    groups: int = 1
    init: Literal["optimal", "kmeans++", "linear", "density", "random"] = "optimal"
    importance: Literal["equal", "inputs"] = "equal"
    images: int = 64

    def __post_init__(self) -> None:
        Retraining.__post_init__(self)
        Selection.__post_init__(self)
        for name, value in {"clusters": self.clusters, **{f"layers.{k}": v for k, v in self.layers.items()}}.items():
            if not 2 <= value <= 256:
                raise ValueError(f"{name} is {value}: give a number of values, 2 to 256")
        if self.groups < 1 or self.images < 1:
            raise ValueError("groups and images have to be at least 1")


def apply(network: Network, options: Options, context: Context) -> Outcome:
    """The network with at most `clusters` x `groups` different values in each weight tensor. Raises PassError where no
    layer can be clustered, where importance has no images, or training cannot be."""
    proto = network.copied_graph()
    constants_to_initialisers(proto)
    chosen, refused = choose(proto, options)
    if not chosen:
        raise PassError(NAME, "there is no layer to cluster", "let more layers in: keep_first, keep_heads, least_size")
    moments = _moments(network.with_graph(proto), chosen, options, context)
    after: dict[str, NDArray[np.float32]] = {}
    errors: dict[str, float] = {}
    bar = context.bar("clustering", len(chosen))
    for number, one in enumerate(chosen):
        count = next((k for pattern, k in options.layers.items() if matches(one.name, [pattern])), options.clusters)
        after[one.name] = _clustered(one, count, options, moments, context.seed + number)
        errors[one.name] = error(one.weight, after[one.name])
        bar.update(1)
    bar.close()
    set_initialisers(proto, after)
    facts: dict[str, Any] = {
        "weights": sum(weight.size for weight in after.values()),
        "error": round(float(np.mean(list(errors.values()))), 6),
    }
    if options.epochs:
        from edge_vision.optimize.training.constraints import KeepClusters

        held = KeepClusters(256 * options.groups, tuple(after), least_size=0)
        proto, training = retrained(network.with_graph(proto), options, context, [held], NAME)
        facts |= training
        trained = {one.name: one.weight for one in choose(proto, options)[0]}
        set_initialisers(proto, {name: _shared(trained[name], after[name]) for name in after})
    final = {one.name: one.weight for one in choose(proto, options)[0]}
    facts["layers"] = {name: len(np.unique(final[name])) for name in after}
    return Outcome(network.with_graph(proto), facts, tuple(refused))


def _clustered(
    one: Chosen, count: int, options: Options, moments: Mapping[str, Moments], seed: int
) -> NDArray[np.float32]:
    importance = importance_of(one.weight, moments, one)
    axis = _output_axis(one)
    parts = []
    for place in np.array_split(np.arange(one.weight.shape[axis]), min(options.groups, one.weight.shape[axis])):
        part = np.take(one.weight, place, axis)
        weight = None if importance is None else np.take(importance, place, axis).reshape(-1)
        found = clustered(
            part.reshape(-1),
            count,
            init=options.init,
            importance=weight,
            keep_zeros=options.keep_sparsity,
            seed=seed,
        )
        parts.append(found.reshape(part.shape))
    return np.concatenate(parts, axis)


def _output_axis(one: Chosen) -> int:
    """Of a convolution 0; of a matrix the other one than that of the inputs."""
    if one.weight.ndim == 2:
        return 0 if one.input_axis in (1, -1) else 1
    return 1 if one.layer.kind == "ConvTranspose" else 0


def _moments(network: Network, chosen: list[Chosen], options: Options, context: Context) -> dict[str, Moments]:
    if options.importance == "equal":
        return {}
    if context.data is None or not len(context.data.calibration):
        raise PassError(NAME, "importance: inputs needs calibration images", "give a data set, or importance: equal")
    images = context.data.calibration.images
    some = np.unique(np.linspace(0, len(images) - 1, min(options.images, len(images))).astype(int))
    bar = context.bar("inputs of layers", len(some))
    batch = tensors(images[some], network.input)
    found = input_moments(
        network.proto, chosen, batch, threads=context.threads, seed=context.seed, step=lambda: bar.update(1)
    )
    bar.close()
    return found


def _shared(trained: NDArray[np.float32], before: NDArray[np.float32]) -> NDArray[np.float32]:
    """Trained weights, those equal that were equal before: what training keeps but for the last bits of a sum."""
    _, members = np.unique(before.reshape(-1), return_inverse=True)
    members = members.reshape(-1)
    sums = np.bincount(members, trained.reshape(-1).astype(np.float64)) / np.bincount(members)
    values = np.where(np.bincount(members, before.reshape(-1) == 0) > 0, 0.0, sums).astype(np.float32)
    return values[members].reshape(before.shape)
