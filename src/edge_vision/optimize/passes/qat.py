"""Quantisation-aware training: a network is trained with the rounding of its integers in place.

What is trained is the quantised graph itself, its QuantizeLinear and DequantizeLinear nodes with straight-through
gradients (Jacob et al. 2018, arXiv:1712.05877), so that what comes out is the graph that runs. Zeros and clusters of
the weights stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edge_vision.optimize.network import Network
from edge_vision.optimize.passes import Context, Outcome, optimisation_pass
from edge_vision.optimize.training.options import LearningOptions

SUMMARY = "train with the rounding of int8 in place"
NEEDS = frozenset({"train", "calibration", "torch"})


@dataclass(frozen=True)
class Options(LearningOptions):
    """As all that learn (`training.options.LearningOptions`; the teacher is the network before its quantisation where
    there is no other), and: train_scales: activations' scales are trained too (LSQ). quantisation: options of the pass
    `int8`, which is applied first to a network that has no QuantizeLinear yet.
    """

    epochs: int = 4
    rate: float = 1e-4
    weight_decay: float = 0.0
    alpha: float = 0.5
    temperature: float = 2.0
    train_scales: bool = False
    quantisation: Mapping[str, Any] = field(default_factory=dict)


def apply(network: Network, options: Options, context: Context) -> Outcome:
    from edge_vision.optimize.training import running

    facts: dict[str, Any] = {}
    refused: tuple[str, ...] = ()
    quantised, teacher = network, context.teacher
    if not any(node.op_type == "QuantizeLinear" for node in network.proto.graph.node):
        teacher = teacher or network
        int8 = optimisation_pass("int8")
        outcome = int8.apply(network, int8.Options(**options.quantisation), context)
        quantised, refused = outcome.network, outcome.refused
        facts["int8"] = dict(outcome.facts)
    loss, teacher = running.best_loss(network, options, teacher, "qat")
    trained, more = running.train(
        "qat",
        quantised,
        options,
        context,
        loss,
        teacher=teacher,
        train_scales=options.train_scales,
        freeze_statistics=True,
    )
    return Outcome(trained, facts | more, refused)
