"""Static 8-bit quantisation: weights and activations as integers, calibrated on images, the decode tail in float."""

from __future__ import annotations

from dataclasses import dataclass

from edge_vision.optimize.network import Network
from edge_vision.optimize.passes import Context, Outcome
from edge_vision.optimize.quantisation import Quantisation, finish, quantised_graph

SUMMARY = "weights and activations in 8 bits, calibrated on images; what decodes stays float"
NEEDS = frozenset({"calibration"})


@dataclass(frozen=True)
class Options(Quantisation):
    __doc__ = Quantisation.__doc__


def apply(network: Network, options: Options, context: Context) -> Outcome:
    """The network as a QDQ graph with int8 weights and int32 biases. Raises PassError for a graph with open sizes, one
    that is quantised already or that ONNX Runtime cannot load, and without calibration images."""
    result = quantised_graph(network, options, context, name="int8")
    return Outcome(network.with_graph(finish(result.proto)), result.facts, result.refused)
