"""What stops a training, in one form."""

from __future__ import annotations

import onnx

from edge_vision.optimize.passes import PassError


class TrainingError(PassError):
    """A graph, its data or its options cannot be trained with: what is wrong, where, and what to do."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__("training", problem, remedy)


def title(node: onnx.NodeProto) -> str:
    """How messages call a node: `Conv node 'backbone.1'`, after its first output where it has no name."""
    name = node.name or (node.output[0] if node.output else "?")
    return f"{node.op_type} node '{name}'"


def unsupported(node: onnx.NodeProto, what: str, remedy: str = "") -> TrainingError:
    """What a node asks for that training does not know."""
    usual = "train before the pass that made it, export the model without it, or use passes that need no training"
    return TrainingError(f"{title(node)}: {what}", remedy or usual)
