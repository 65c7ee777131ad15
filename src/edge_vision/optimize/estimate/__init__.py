"""Before buying the board: latency, RAM and flash of a model on boards that are not here, with the error.

model = read_model(find_model("conveyor_parts"))
found = estimate(model, find_target("raspberry_pi_5"))
found.latencies[0].ms, found.latencies[0].low, found.latencies[0].high
"""

from __future__ import annotations

from edge_vision.optimize.estimate.checking import Row, check_target, coverage
from edge_vision.optimize.estimate.estimating import PRECISIONS, Estimate, Fit, Latency, estimate
from edge_vision.optimize.estimate.graph import Model, model_of, read_model
from edge_vision.optimize.estimate.targets import Target, find_target, read_target, target_names

__all__ = [
    "PRECISIONS",
    "Estimate",
    "Fit",
    "Latency",
    "Model",
    "Row",
    "Target",
    "check_target",
    "coverage",
    "estimate",
    "find_target",
    "model_of",
    "read_model",
    "read_target",
    "target_names",
]
