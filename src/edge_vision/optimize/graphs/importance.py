"""How much a unit of channels matters: the norms of the weights that make and read it, or what it really carries."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edge_vision.optimize.graphs.channels import Channels
from edge_vision.optimize.graphs.running import session_of
from edge_vision.optimize.graphs.units import FIXED, Slot

CRITERIA = ("l2", "l1", "batch_norm", "activation")


def unit_scores(
    proto: onnx.ModelProto,
    channels: Channels,
    criterion: str,
    energies: Mapping[str, NDArray[np.float64]] | None = None,
) -> dict[int, float]:
    """The score of each unit that can be removed; the lowest matter least.

    l2, l1: norms of the weights that make the channel (Li et al. 2017, arXiv:1608.08710) times those of the weights
    that read it, each as a part of the mean of its layer: zero where either is. batch_norm: |gamma| (Liu et al. 2017,
    arXiv:1708.06519), the l2 score where a channel has none. activation: the part of each reader's output energy that
    comes through the channel, from `energies` (`input_energies`).
    """
    tables = {tensor.name: tensor for tensor in proto.graph.initializer}
    scores = {int(unit): 0.0 for group in channels.groups for unit in group.units}
    if criterion == "batch_norm":
        scores = unit_scores(proto, channels, "l2")
        found: dict[int, float] = {}
        for slot in channels.slots:
            if slot.node.op_type == "BatchNormalization" and slot.node.input[1] == slot.name:
                _add(found, slot.units, np.abs(numpy_helper.to_array(tables[slot.name])).astype(np.float64))
        # Means of one, like those of the norms, so that both kinds can be compared.
        mean = float(np.mean(list(found.values()))) if found else 1.0
        return scores | {unit: value / max(mean, 1e-12) for unit, value in found.items() if unit in scores}
    sides: dict[str, dict[int, float]] = {"output": {}, "input": {}}
    for slot in channels.slots:
        if slot.role == "along":
            continue
        weights = np.moveaxis(numpy_helper.to_array(tables[slot.name]).astype(np.float64), slot.axis, 0)
        rows = weights.reshape(len(weights), -1)
        if criterion == "activation":
            if slot.role != "input" or energies is None:
                continue
            carried = energies[slot.node.input[0]] * np.square(rows).sum(1)
            _add(sides["input"], slot.units, carried / max(carried.sum(), 1e-30))
        else:
            norms = np.sqrt(np.square(rows).sum(1)) if criterion == "l2" else np.abs(rows).sum(1)
            _add(sides[slot.role], slot.units, norms / max(norms.mean(), 1e-30))
    made, read = sides["output"], sides["input"]
    return {unit: made.get(unit, 1.0) * read.get(unit, 1.0) for unit in scores}


def _add(scores: dict[int, float], units: NDArray[np.int64], values: NDArray[np.float64]) -> None:
    for unit, value in zip(units.tolist(), values.tolist(), strict=True):
        if unit != FIXED:
            scores[unit] = scores.get(unit, 0.0) + value


def input_energies(
    proto: onnx.ModelProto, channels: Channels, batch: NDArray, threads: int = 0
) -> dict[str, NDArray[np.float64]]:
    """The mean square of each channel of every tensor that a layer with an input slot reads, over a batch (N, ...) of
    input tensors and over places: by tensor name, (channels,) each."""
    axes = {slot.node.input[0]: channels.lanes[slot.node.input[0]].axis for slot in _readers(channels)}
    names = list(axes)
    session = session_of(with_outputs(proto, names), threads)
    source = session.get_inputs()[0].name
    found: dict[str, NDArray[np.float64]] = {}
    for index in range(len(batch)):
        for name, value in zip(names, session.run(names, {source: batch[index : index + 1]}), strict=True):
            other = tuple(axis for axis in range(value.ndim) if axis != axes[name])
            energy = np.square(value.astype(np.float64)).mean(other)
            found[name] = found[name] + energy if name in found else energy
    return {name: energy / len(batch) for name, energy in found.items()}


def _readers(channels: Channels) -> list[Slot]:
    return [slot for slot in channels.slots if slot.role == "input"]


def with_outputs(proto: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """A copy that also gives these inner tensors."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    known = {output.name for output in copy.graph.output} | {value.name for value in copy.graph.input}
    for name in names:
        if name not in known:
            copy.graph.output.append(onnx.ValueInfoProto(name=name))
    return copy
