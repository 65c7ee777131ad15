"""What values a network's tensors take on calibration images, by the calibrators of onnxruntime.quantization."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_vision.optimize.quantisation.preparing import quiet

METHODS = ("minmax", "entropy", "percentile")
Ranges = dict[str, tuple[float, float]]

_TOGETHER = 8  # images whose inner tensors are in memory at a time


def measure_ranges(
    proto: onnx.ModelProto,
    names: Sequence[str],
    batch: NDArray,
    method: str,
    *,
    percentile: float = 99.99,
    progress: Callable[[int], Any] = lambda images: None,
) -> Ranges:
    """(lowest, highest) of each tensor of a prepared graph over input tensors (N, ...).

    minmax: all that was seen. entropy: the range that loses least information (Kullback-Leibler) when it is quantised.
    percentile: what this share of the values lies within. The latter two never go beyond what was seen.
    """
    if not names:
        return {}
    with tempfile.TemporaryDirectory(prefix="edge_vision_") as folder, quiet():
        path = Path(folder, "model.onnx")
        onnx.save(proto, path)
        calibrator = _calibrator(path, Path(folder, "augmented.onnx"), method, percentile)
        wanted = set(names)
        select = calibrator.select_tensors_to_calibrate
        # It would take all tensors of the operators that ONNX Runtime quantises; these are those of the placement.
        calibrator.select_tensors_to_calibrate = lambda model: (wanted, select(model)[1])
        calibrator.augment_graph()
        calibrator.create_inference_session()
        source = next(i.name for i in proto.graph.input)
        for start in range(0, len(batch), _TOGETHER):
            images = batch[start : start + _TOGETHER]
            calibrator.collect_data(_reader(source, images))
            progress(len(images))
        found = calibrator.compute_data()
    ranges: Ranges = {}
    for name in names:
        low, high = (float(np.ravel(value)[0]) for value in found[name].range_value)
        ranges[name] = (low, high) if math.isfinite(low) and math.isfinite(high) else (0.0, 0.0)
    return ranges


def _calibrator(path: Path, augmented: Path, method: str, percentile: float) -> Any:
    from onnxruntime.quantization.calibrate import EntropyCalibrater, MinMaxCalibrater, PercentileCalibrater

    if method == "minmax":
        return MinMaxCalibrater(path, augmented_model_path=str(augmented))
    if method == "entropy":
        return EntropyCalibrater(path, augmented_model_path=str(augmented))
    if method == "percentile":
        return PercentileCalibrater(path, augmented_model_path=str(augmented), percentile=percentile)
    raise ValueError(f"calibration is {method!r}: it is one of {', '.join(METHODS)}")


def _reader(source: str, images: NDArray) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left: Iterator[NDArray] = iter(images)

        def get_next(self) -> dict[str, NDArray] | None:
            image = next(self.left, None)
            return None if image is None else {source: image[None]}

    return Reader()
