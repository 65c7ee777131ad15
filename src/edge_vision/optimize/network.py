"""A model on its way through the passes: an ONNX graph, and what its bundle says of it.

ONNX is the only form that passes know: those that train do so on the graph's own initialisers (`training/`), so that
what was trained is what runs.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_vision.datatypes import Labels
from edge_vision.inference.bundle import Bundle
from edge_vision.inference.preprocess import InputSpec

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Network:
    """proto: the graph, weights inside, never written to (a pass works on `copied_graph`). bundle: task, decoder,
    labels, input, thresholds, licence of the bundle that it came from; its files are the original's, not `proto`."""

    proto: onnx.ModelProto
    bundle: Bundle

    @property
    def task(self) -> str:
        """`detect` or `classify`."""
        return self.bundle.task

    @property
    def labels(self) -> Labels:
        return self.bundle.labels

    @property
    def input(self) -> InputSpec:
        return self.bundle.input

    def copied_graph(self) -> onnx.ModelProto:
        """A graph to write to."""
        import onnx

        copy = onnx.ModelProto()
        copy.CopyFrom(self.proto)
        return copy

    def with_graph(self, proto: onnx.ModelProto, **changes: Any) -> Network:
        """The network with another graph, and other fields of its bundle (`input=...`, `decoder_options=...`)."""
        return Network(proto, dataclasses.replace(self.bundle, **changes) if changes else self.bundle)
