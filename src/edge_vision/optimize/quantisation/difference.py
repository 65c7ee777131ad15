"""How far a quantised graph is from the float one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_vision.optimize.graphs.running import session_of
from edge_vision.optimize.quantisation.qdq import Quantised


class Reference:
    """What the float graph gives at some tensors, over a batch (N, ...), kept for comparisons.

    heads: the tensors; those that lead to the decode tail, before sigmoids squeeze and boxes stretch them.
    """

    def __init__(self, proto: onnx.ModelProto, heads: Sequence[str], batch: NDArray, threads: int = 0) -> None:
        self.heads = tuple(heads) or tuple(output.name for output in proto.graph.output)
        self.batch = batch
        self.threads = threads
        # Convolutions have their channels first, products last.
        convolutions = {name for node in proto.graph.node if node.op_type == "Conv" for name in node.output}
        self.axes = tuple(1 if head in convolutions else -1 for head in self.heads)
        self.values = self._run(proto, {})

    def error(self, found: Quantised) -> float:
        """Noise over signal power: the mean, over heads and their channels, of the squared difference over the
        variance; infinite where a value is not finite."""
        values = self._run(found.proto, found.names)
        return float(np.mean([_share(*pair) for pair in zip(self.values, values, self.axes, strict=True)]))

    def _run(self, proto: onnx.ModelProto, names: Mapping[str, str]) -> list[NDArray]:
        copy = onnx.ModelProto()
        copy.CopyFrom(proto)
        wanted = [names.get(head, head) for head in self.heads]
        present = {output.name for output in copy.graph.output}
        copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in present)
        session = session_of(copy, self.threads)
        source = session.get_inputs()[0].name
        runs = [session.run(wanted, {source: image[None]}) for image in self.batch]
        return [np.stack([run[place] for run in runs]) for place in range(len(wanted))]


def decibels(error: float) -> float:
    """Signal over noise in dB of an error."""
    return float(-10 * np.log10(max(error, 1e-12)))


def _share(old: NDArray, new: NDArray, axis: int) -> float:
    """Noise over signal of values (images, ...) by channels along `axis` of an image's tensor."""
    if not np.isfinite(new).all():
        return float("inf")
    place = axis + 1 if axis >= 0 else axis
    before, after = (np.moveaxis(v, place, 0).reshape(v.shape[place], -1).astype(np.float64) for v in (old, new))
    noise, signal = ((before - after) ** 2).mean(axis=1), before.var(axis=1)
    # A channel that hardly moves says nothing of its own.
    return float(np.mean(noise / np.maximum(signal, 1e-3 * max(float(signal.mean()), 1e-12))))
