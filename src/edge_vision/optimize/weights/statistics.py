"""What layers see on images: how much each of their inputs carries, and which go together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_vision.optimize.graphs.running import session_of
from edge_vision.optimize.graphs.shapes import text
from edge_vision.optimize.graphs.view import integers
from edge_vision.optimize.weights.selection import Chosen

PLACES = 256  # of a layer's output that are looked at in an image
LARGEST = 4608  # inputs of an output (512 channels x 3 x 3): its moments are 170 MB


@dataclass(frozen=True)
class Moments:
    """Of the K values x that one output of a layer sums up (of a convolution K = channels x kh x kw, as the weight has
    them): mean E[x] (K,), second E[x x'] (K, K)."""

    mean: NDArray[np.float64]
    second: NDArray[np.float64]

    @property
    def covariance(self) -> NDArray[np.float64]:
        return self.second - np.outer(self.mean, self.mean)


def input_moments(
    proto: onnx.ModelProto,
    layers: Sequence[Chosen],
    batch: NDArray,
    *,
    threads: int = 0,
    seed: int = 0,
    step: Callable[[], object] = lambda: None,
) -> dict[str, Moments]:
    """The moments of layers' inputs by the layers' names, from a batch (N, ...) of input tensors; `step` is called
    after each image.

    Layers are left out that have groups, transpose, more than `LARGEST` inputs or padding by name.
    """
    usable = [c for c in layers if _usable(c)]
    sources = list(dict.fromkeys(c.layer.node.input[0] for c in usable))
    front = onnx.ModelProto()
    front.CopyFrom(proto)
    inputs = {value.name for value in front.graph.input}
    inner = [name for name in sources if name not in inputs]
    del front.graph.output[:]
    front.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in inner)
    sums = {c.name: np.zeros((k := _unknowns(c), k)) for c in usable}
    means = {name: np.zeros(len(part)) for name, part in sums.items()}
    counts = dict.fromkeys(sums, 0)
    session = session_of(front, threads) if inner else None
    rng = np.random.default_rng(seed)
    fed = next(value.name for value in proto.graph.input if value.name not in {t.name for t in proto.graph.initializer})
    for index in range(len(batch)):
        image = batch[index : index + 1]
        values = dict(zip(inner, session.run(inner, {fed: image}), strict=True)) if session else {}
        values |= {name: image for name in sources if name in inputs}
        for c in usable:
            rows = _rows(c, values[c.layer.node.input[0]], rng)
            sums[c.name] += rows.T @ rows
            means[c.name] += rows.sum(0)
            counts[c.name] += len(rows)
        step()
    return {name: Moments(means[name] / max(n, 1), sums[name] / max(n, 1)) for name, n in counts.items()}


def importance_of(weight: NDArray, moments: Mapping[str, Moments], chosen: Chosen) -> NDArray[np.float64] | None:
    """(weight's shape) how much a weight's error counts in the output: the mean square of its input."""
    moment = moments.get(chosen.name)
    if moment is None:
        return None
    squares = np.diag(moment.second)
    if weight.ndim == 4:
        shaped = squares.reshape(1, *weight.shape[1:])
    else:
        shaped = squares[None, :] if chosen.input_axis in (1, -1) else squares[:, None]
    floor = max(float(squares.mean()) * 1e-3, 1e-12)  # what is never seen in these images may be in others
    return np.broadcast_to(np.maximum(shaped, floor), weight.shape).astype(np.float64)


def _usable(chosen: Chosen) -> bool:
    node = chosen.layer.node
    if node.op_type == "Conv":
        plain = chosen.layer.groups == 1 and text(node, "auto_pad", "NOTSET") == "NOTSET" and chosen.weight.ndim == 4
        return plain and _unknowns(chosen) <= LARGEST
    first = node.op_type == "Gemm" or (node.op_type == "MatMul" and chosen.input_axis == -2)
    return first and chosen.weight.ndim == 2 and _unknowns(chosen) <= LARGEST


def _unknowns(chosen: Chosen) -> int:
    if chosen.weight.ndim == 4:
        return int(np.prod(chosen.weight.shape[1:]))
    return chosen.weight.shape[chosen.input_axis]


def _rows(chosen: Chosen, value: NDArray, rng: np.random.Generator) -> NDArray[np.float64]:
    """(P, K) what the layer sees at places of its output, drawn at random where there are many."""
    node = chosen.layer.node
    if node.op_type != "Conv":
        rows = value.reshape(-1, value.shape[-1]).astype(np.float64)
        return rows if len(rows) <= PLACES else rows[rng.choice(len(rows), PLACES, replace=False)]
    height, width = chosen.weight.shape[2:]
    top, left, bottom, right = integers(node, "pads", (0, 0, 0, 0))
    stride_y, stride_x = integers(node, "strides", (1, 1))
    dilation_y, dilation_x = integers(node, "dilations", (1, 1))
    padded = np.pad(value[0], ((0, 0), (top, bottom), (left, right)))
    lines = (padded.shape[1] - dilation_y * (height - 1) - 1) // stride_y + 1
    columns = (padded.shape[2] - dilation_x * (width - 1) - 1) // stride_x + 1
    places = np.arange(lines * columns)
    if len(places) > PLACES:
        places = rng.choice(places, PLACES, replace=False)
    rows = places[:, None] // columns * stride_y + np.arange(height) * dilation_y
    cols = places[:, None] % columns * stride_x + np.arange(width) * dilation_x
    seen = padded[:, rows[:, :, None], cols[:, None, :]]  # (C, P, kh, kw)
    return seen.transpose(1, 0, 2, 3).reshape(len(places), -1).astype(np.float64)
