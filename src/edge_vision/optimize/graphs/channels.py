"""Which channels of a graph live and die together.

Every channel of every inner tensor is followed back to the layers that make it. A *unit* is a set of channels that can
only be removed together: those that an element-wise sum ties, a depthwise convolution's with its input's, the copies
of one channel after Flatten. Tensors hold units along one axis; what mixes channels in a way that no slice undoes, and
what reaches an output of the graph, fixes its units. A *group* is a set of units that lie in the same tensors, so that
any of them may be taken. (Same idea as the dependency groups of DepGraph, Fang et al. 2023, arXiv:2301.12900, here by
carrying labels through an ONNX graph with static sizes.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_vision.optimize.graphs.following import Follower
from edge_vision.optimize.graphs.shapes import Shape
from edge_vision.optimize.graphs.units import FIXED, Lane, Slot


@dataclass(frozen=True, eq=False)
class Group:
    """Units of which any may be removed, named by the layers that make them.

    units (N,) int64: roots as in `Channels.slots`; layers: names of the layers whose weights have them as outputs.
    """

    units: NDArray[np.int64]
    layers: tuple[str, ...]


@dataclass
class Channels:
    """The units of a graph.

    lanes: of every inner tensor that has units; slots: of every constant. In both, units are roots: equal numbers live
    and die together. groups: of what can be removed. refused: why layers' channels stay, a line each.
    """

    lanes: dict[str, Lane]
    slots: tuple[Slot, ...]
    groups: tuple[Group, ...]
    refused: tuple[str, ...] = ()
    shapes: Mapping[str, Shape] = field(default_factory=dict)


def find_channels(proto: onnx.ModelProto, shapes: Mapping[str, Shape]) -> Channels:
    """The units of a graph with constants folded (`folding.fold`) and static sizes (`shapes.static_shapes`)."""
    follower = Follower(proto, shapes)
    units = follower.units
    roots = np.array([units.root(unit) for unit in range(len(units.parents))] + [FIXED], np.int64)
    fixed = {units.root(unit): reason for unit, reason in units.fixed.items()}
    for unit in fixed:
        roots[roots == unit] = FIXED
    lanes = {name: Lane(lane.axis, roots[lane.units]) for name, lane in follower.lanes.items()}
    slots = tuple(Slot(s.name, s.axis, roots[s.units], s.role, s.node) for s in follower.slots)
    where: dict[int, set[str]] = {}
    for name, lane in lanes.items():
        for unit in np.unique(lane.units).tolist():
            where.setdefault(unit, set()).add(name)
    where.pop(FIXED, None)
    alike: dict[frozenset[str], list[int]] = {}
    for unit, names in where.items():
        alike.setdefault(frozenset(names), []).append(unit)
    made: dict[int, list[str]] = {}
    for slot in slots:
        if slot.role == "output":
            for unit in np.unique(slot.units).tolist():
                made.setdefault(unit, []).append(slot.name)
    groups = tuple(
        Group(np.array(sorted(units), np.int64), tuple(made.get(min(units), ()))) for units in alike.values()
    )
    return Channels(lanes, slots, groups, _refusals(follower, fixed), shapes)


def _refusals(follower: Follower, fixed: Mapping[int, str]) -> tuple[str, ...]:
    lines = []
    for slot in follower.slots:
        if slot.role != "output":
            continue
        reasons = {
            fixed[root] for root in {follower.units.root(u) for u in slot.units.tolist() if u >= 0} if root in fixed
        }
        if reasons:
            lines.append(f"{slot.name}: its channels stay, since {'; '.join(sorted(reasons))}")
    understood = {slot.name for slot in follower.slots if slot.role == "output"}
    for layer in follower.view.layers:
        if layer.name not in understood:
            what = "its weights are quantised" if layer.quantised else f"a {layer.kind} of this form is not followed"
            lines.append(f"{layer.name}: its channels stay, since {what}")
    return tuple(lines)
