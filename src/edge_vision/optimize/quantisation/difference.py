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
        self.values = self._run(proto, {})

    def error(self, found: Quantised) -> float:
        """Noise over signal power: the mean, over heads and their channels, of the squared difference over the
        variance; infinite where a value is not finite."""
        shares = [_share(old, new) for old, new in zip(self.values, self._run(found.proto, found.names), strict=True)]
        return float(np.mean(shares))

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


def _share(old: NDArray, new: NDArray) -> float:
    if not np.isfinite(new).all():
        return float("inf")
    # (images, batch, channels, ...): channels first, the rest together.
    before, after = (
        np.moveaxis(v, 2, 0).reshape(v.shape[2], -1) if v.ndim > 2 else v.reshape(1, -1) for v in (old, new)
    )
    noise = ((before.astype(np.float64) - after) ** 2).mean(axis=1)
    signal = before.astype(np.float64).var(axis=1)
    # A channel that hardly moves says nothing of its own.
    return float(np.mean(noise / np.maximum(signal, 1e-3 * max(float(signal.mean()), 1e-12))))
