"""A node as the operators see it while a graph is prepared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx
import torch

from edge_vision.optimize.training.errors import unsupported

Shape = tuple[int, ...]


@dataclass
class NodeView:
    """One node, what is known of its inputs, and which of them its function wants.

    constants: value of each input, None where it is no constant. shapes, doubled: of each input at the reference batch
    and at twice of it, None where the input is absent: the axis in which they differ is that of the batch. used:
    indices of the inputs that the function is called with, all of them unless the operator says otherwise.
    """

    proto: onnx.NodeProto
    opset: int
    constants: Sequence[torch.Tensor | None]
    shapes: Sequence[Shape | None]
    doubled: Sequence[Shape | None]
    used: tuple[int, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.attributes = {a.name: onnx.helper.get_attribute_value(a) for a in self.proto.attribute}
        self.used = tuple(i for i, name in enumerate(self.proto.input) if name)

    def attribute(self, name: str, default: Any = None) -> Any:
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def given(self, index: int) -> bool:
        """Whether an optional input is there."""
        return index < len(self.proto.input) and bool(self.proto.input[index])

    def take(self, *indices: int) -> None:
        """The inputs that the function wants; the others were read while preparing."""
        self.used = tuple(i for i in indices if self.given(i))

    def shape(self, index: int = 0) -> Shape:
        shape = self.shapes[index]
        assert shape is not None
        return shape

    def batch_axis(self, index: int = 0) -> int | None:
        """Axis of an input that grows with the batch, None where none does."""
        before, after = self.shapes[index], self.doubled[index]
        if before is None or after is None:
            return None
        return next((i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b), None)

    def constant(self, index: int, what: str) -> torch.Tensor:
        """An input that has to be known beforehand."""
        value = self.constants[index]
        if value is None:
            raise self.error(f"{what} ('{self.proto.input[index]}') depends on the image")
        return value

    def numbers(self, index: int, what: str) -> list[int]:
        return [int(v) for v in self.constant(index, what).reshape(-1).tolist()]

    def axes(self, index: int, name: str = "axes") -> list[int] | None:
        """Axes, an attribute in old opsets and an input in new ones; None where neither is there."""
        if self.given(index):
            return self.numbers(index, name)
        value = self.attribute(name)
        return None if value is None else [int(v) for v in value]

    def error(self, what: str, remedy: str = "") -> Exception:
        return unsupported(self.proto, what, remedy)
