"""A graph run in ONNX Runtime, and two graphs compared on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from edge_vision.inference.preprocess import InputSpec


class CannotRun(Exception):
    """ONNX Runtime does not take the graph; its message."""


def session_of(proto: onnx.ModelProto, threads: int = 0, *, optimised: bool = True) -> onnxruntime.InferenceSession:
    """The graph in ONNX Runtime on the CPU. threads: 0 for one a core. Raises CannotRun."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of onnxruntime's own many types
        raise CannotRun(str(error).strip().splitlines()[0][:300]) from error


def tensors(images: NDArray[np.uint8], spec: InputSpec) -> NDArray:
    """Images (N, H, W, 3) uint8 BGR of the network's size as its input tensor, (N, ...) of `spec`'s type and layout."""
    if spec.colour == "mono":
        weights = np.array([0.114, 0.587, 0.299], np.float32)
        chosen = np.rint(images @ weights)[..., None].astype(np.uint8)
    else:
        chosen = images[..., ::-1] if spec.colour == "rgb" else images
    if spec.dtype != "uint8":
        mean, std = np.array(spec.mean, np.float32), np.array(spec.std, np.float32)
        chosen = ((chosen.astype(np.float32) * np.float32(spec.scale) - mean) / std).astype(spec.dtype)
    if spec.layout == "nchw":
        chosen = chosen.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(chosen)


def random_images(spec: InputSpec, count: int = 2, seed: int = 0) -> NDArray[np.uint8]:
    """Images (N, H, W, 3) uint8 of coarse random patches with noise, in which a network finds edges and areas."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, -(-spec.height // 16), -(-spec.width // 16), 3))
    patches = coarse.repeat(16, 1).repeat(16, 2)[:, : spec.height, : spec.width]
    return np.clip(patches + rng.integers(-20, 21, patches.shape), 0, 255).astype(np.uint8)


def run(session: onnxruntime.InferenceSession, batch: NDArray, names: Sequence[str] | None = None) -> list[NDArray]:
    """Outputs for images (N, ...), given one at a time as detectors want them, joined on their first axis."""
    source = session.get_inputs()[0]
    found = [session.run(names, {source.name: batch[i : i + 1]}) for i in range(len(batch))]
    return [np.concatenate([np.atleast_1d(outputs[k]) for outputs in found]) for k in range(len(found[0]))]


@dataclass(frozen=True)
class Difference:
    """How far outputs lie apart, the worst of all outputs: largest absolute difference; relative, the same as a part
    of the output's largest value; rms, the root mean square of the differences as a part of the output's own deviation
    from its mean. Infinite where sizes differ or a value is not finite."""

    largest: float
    relative: float
    rms: float


def compare(before: onnx.ModelProto, after: onnx.ModelProto, batch: NDArray, threads: int = 0) -> Difference:
    """The outputs of two graphs, in their order, for a batch (N, ...). Raises CannotRun."""
    found = [run(session_of(proto, threads), batch) for proto in (before, after)]
    largest = relative = rms = 0.0
    for old, new in zip(*found, strict=True):
        if old.shape != new.shape or not np.isfinite(new.astype(np.float64)).all():
            return Difference(np.inf, np.inf, np.inf)
        was = old.astype(np.float64)
        apart = np.abs(was - new.astype(np.float64))
        furthest = float(apart.max(initial=0.0))
        largest = max(largest, furthest)
        relative = max(relative, furthest / max(float(np.abs(was).max(initial=0.0)), 1e-12))
        rms = max(rms, float(np.sqrt(np.square(apart).mean())) / max(float(was.std()), 1e-12))
    return Difference(largest, relative, rms)
