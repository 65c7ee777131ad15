"""Structured pruning: whole channels go, and every tensor that had them becomes smaller."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.optimize.graphs.channels import Channels
from edge_vision.optimize.graphs.choosing import Chooser, for_macs
from edge_vision.optimize.graphs.importance import CRITERIA, input_energies, unit_scores
from edge_vision.optimize.graphs.reconstruction import fitted_layers, reconstruct
from edge_vision.optimize.graphs.running import CannotRun, session_of, tensors
from edge_vision.optimize.graphs.shrinking import Costs, channels_of, is_quantised, prepared, shrink
from edge_vision.optimize.network import Network
from edge_vision.optimize.passes import Context, Outcome, PassError

NAME = "channels"
SUMMARY = "structured pruning: remove channels, so that tensors shrink"
NEEDS: frozenset[str] = frozenset()
SCOPES = ("layer", "global")


@dataclass(frozen=True)
class Options:
    """ratio: part of the channels that goes. target_macs: instead, the part of the multiply-accumulates that stays; 0
    for none. criterion: l2 or l1 norm of the weights, batch_norm's scale, or activation, the energy that channels carry
    on calibration images; auto is that where there are such images, l2 otherwise. scope: layer takes the same part of
    each group of channels; global takes what matters least for the multiply-accumulates that it saves, at most `most`
    of a group. multiple: channels stay a multiple of this, what a SIMD kernel works on at a time (16 with AVX-512, 8
    with AVX2 and NEON): others cost as much as the next multiple, or more. exclude: patterns of weights' names whose
    channels stay. reconstruct: fit the readers' weights to calibration images where there are any, at most `images`,
    held to the old ones by `ridge`."""

    ratio: float = 0.25
    target_macs: float = 0.0
    criterion: str = "auto"
    scope: str = "layer"
    multiple: int = 16
    most: float = 0.75
    exclude: tuple[str, ...] = ()
    reconstruct: bool = True
    images: int = 64
    ridge: float = 0.03

    def __post_init__(self) -> None:
        if not 0 <= self.ratio < 1:
            raise ValueError(f"ratio is {self.ratio}: give the part of the channels that goes, from 0 to below 1")
        if not 0 <= self.target_macs < 1:
            raise ValueError(f"target_macs is {self.target_macs}: give the part that stays, such as 0.5, or 0 for none")
        if self.criterion not in ("auto", *CRITERIA):
            raise ValueError(f"criterion is {self.criterion!r}: choose one of auto, {', '.join(CRITERIA)}")
        if self.scope not in SCOPES:
            raise ValueError(f"scope is {self.scope!r}: choose one of {', '.join(SCOPES)}")
        if self.multiple < 1:
            raise ValueError(f"multiple is {self.multiple}: give 1 or more, such as 16 or 8 for SIMD")
        if not 0 < self.most < 1:
            raise ValueError(f"most is {self.most}: give the largest part of a group that may go, above 0 and below 1")
        if self.images < 1:
            raise ValueError(f"images is {self.images}: give how many images to fit to, 1 or more")
        if self.ridge <= 0:
            raise ValueError(f"ridge is {self.ridge}: give a small positive number, such as 0.03")


def apply(network: Network, options: Options, context: Context) -> Outcome:
    """The network with fewer channels. Accuracy falls: fine-tune or distil afterwards."""
    proto, channels = found_channels(network, NAME)
    batch = calibration(network, context, options.images)
    if options.criterion == "activation" and batch is None:
        raise PassError(NAME, "criterion activation needs calibration images", "give --data, or criterion l2")
    criterion = options.criterion
    if criterion == "auto":
        criterion = "l2" if batch is None else "activation"
    energies = None
    if criterion == "activation" and batch is not None:
        energies = input_energies(proto, channels, batch, context.threads)
    costs = Costs(proto, channels)
    scores = unit_scores(proto, channels, criterion, energies)
    chooser = Chooser(channels, scores, options.multiple, options.most, options.exclude)
    removed, problem = _chosen(chooser, costs, options)
    if not len(removed):
        raise PassError(NAME, f"no channel goes{problem}", "raise ratio, or lower multiple")
    smaller = shrink(proto, channels, removed)
    facts = shrunk_facts(channels, costs, removed) | {"criterion": criterion, "scope": options.scope}
    if options.reconstruct and batch is not None:
        bar = context.bar("channels: layers fitted", len(fitted_layers(smaller)))
        fitted = reconstruct(
            proto,
            smaller,
            channels,
            removed,
            batch,
            ridge=options.ridge,
            threads=context.threads,
            seed=context.seed,
            step=lambda: bar.update(1),
        )
        bar.close()
        facts["reconstruction"] = {
            "layers": fitted.layers,
            "images": len(batch),
            "error_cut": round(fitted.error_before, 6),
            "error_fitted": round(fitted.error_after, 6),
        }
    _runs(smaller, NAME)
    refused = list(channels.refused)
    if problem:
        refused.append(problem)
    refused += [f"{', '.join(group.layers)}: excluded" for group in channels.groups if group not in chooser.groups]
    return Outcome(network.with_graph(smaller), facts, tuple(refused))


def _chosen(chooser: Chooser, costs: Costs, options: Options) -> tuple[NDArray[np.int64], str]:
    """Units that go, and why that falls short of what was wanted, "" where it does not."""
    saved = costs.of_units()

    def choose(part: float) -> NDArray[np.int64]:
        return chooser.evenly(part) if options.scope == "layer" else chooser.globally(part, saved)

    if not options.target_macs:
        return choose(options.ratio), ""
    wanted = options.target_macs * costs.total()
    removed = for_macs(chooser, choose, costs, wanted, options.scope == "layer")
    reached = costs.total(removed)
    if reached > wanted:
        return removed, (
            f"target_macs {options.target_macs:g} is not reached: {reached / costs.total():.3f} of the "
            f"multiply-accumulates stay with {options.most:g} of each group gone at most"
        )
    return removed, ""


def found_channels(network: Network, name: str) -> tuple[Any, Channels]:
    """The network's graph `prepared`, and its units. Raises PassError where nothing can be removed."""
    if is_quantised(network.proto):
        raise PassError(name, "the network is quantised already", "put this step before the quantisation")
    try:
        proto = prepared(network.proto, network.input)
    except CannotRun as error:
        raise PassError(name, f"ONNX Runtime does not take this graph ({error})", "correct the model") from error
    channels = channels_of(proto)
    if not channels.groups:
        reasons = "; ".join(channels.refused[:3]) or "it has no layers with weights"
        raise PassError(name, f"no channel of this network can be removed ({reasons})", "leave this step out")
    return proto, channels


def calibration(network: Network, context: Context, most: int) -> NDArray | None:
    """Input tensors (N, ...) of at most so many calibration images, spread over them; None without data."""
    if context.data is None or not len(context.data.calibration):
        return None
    images = context.data.calibration.images
    chosen = np.unique(np.linspace(0, len(images) - 1, min(most, len(images))).round().astype(int))
    return tensors(images[chosen], network.input)


def shrunk_facts(channels: Channels, costs: Costs, removed: NDArray[np.int64]) -> dict[str, Any]:
    """Channels by layer and multiply-accumulates, before and after."""
    layers: dict[str, list[int]] = {}
    for slot in channels.slots:
        if slot.role == "output":
            keep = ~np.isin(slot.units, removed)
            layers[slot.name] = [len(keep), int(keep.sum())]
    before, after = costs.total(), costs.total(removed)
    return {
        "macs": [before, after],
        "channels": [sum(a for a, _ in layers.values()), sum(b for _, b in layers.values())],
        "layers": layers,
        "kept_macs": round(after / before, 4) if before else math.nan,
    }


def _runs(proto: Any, name: str) -> None:
    try:
        session_of(proto, 1)
    except CannotRun as error:
        raise PassError(
            name,
            f"the smaller graph does not run ({error})",
            "report this model; leave the step out, or name its layers in exclude",
        ) from error
