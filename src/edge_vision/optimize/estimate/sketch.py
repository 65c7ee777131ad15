"""A network as a table of operators, written down while walking through it."""

from __future__ import annotations

from edge_vision.optimize.estimate.operations import Operation, convolution_kind


class Sketch:
    """Writes the table down while walking through a network: `height`, `width`, `channels` are where it stands."""

    def __init__(self, size: int | tuple[int, int], channels: int = 3) -> None:
        self.height, self.width = (size, size) if isinstance(size, int) else size
        self.channels = channels
        self.operations: list[Operation] = []

    @property
    def numbers(self) -> int:
        return self.height * self.width * self.channels

    def conv(
        self, out: int, kernel: int | tuple[int, int] = 3, stride: int = 1, group: int = 1, valid: bool = False
    ) -> Sketch:
        """Padded so that the size is divided by the stride and rounded up, or not at all (`valid`)."""
        tall, wide = (kernel, kernel) if isinstance(kernel, int) else kernel
        before = self.numbers
        self._shrink(tall, wide, stride, valid)
        weights = tall * wide * self.channels // group * out
        kind = convolution_kind((tall, wide), stride, group, self.channels)
        after = self.height * self.width * out
        self._add("Conv", kind, weights * self.height * self.width, before, weights, after)
        self.channels = out
        return self

    def depthwise(self, kernel: int | tuple[int, int] = 3, stride: int = 1) -> Sketch:
        return self.conv(self.channels, kernel, stride, group=self.channels)

    def pool(self, kernel: int = 2, stride: int = 2, valid: bool = False) -> Sketch:
        """valid: not padded, but a last window that reaches over the edge counts (Caffe's and ncnn's rule)."""
        before = self.numbers
        if valid:
            self.height = -((kernel - self.height) // stride) + 1
            self.width = -((kernel - self.width) // stride) + 1
        else:
            self._shrink(kernel, kernel, stride, valid)
        self._add("MaxPool", "moving", 0, before, 0, self.numbers)
        return self

    def global_pool(self) -> Sketch:
        before = self.numbers
        self.height = self.width = 1
        self._add("GlobalAveragePool", "moving", 0, before, 0, self.channels)
        return self

    def add(self) -> Sketch:
        """With another of the same shape."""
        self._add("Add", "moving", 0, 2 * self.numbers, 0, self.numbers)
        return self

    def concat(self, channels: int) -> Sketch:
        """To this many channels."""
        self.channels = channels
        self._add("Concat", "moving", 0, self.numbers, 0, self.numbers)
        return self

    def activation(self) -> Sketch:
        """One that is not folded (Swish and the like where the runtime has no kernel with it inside)."""
        self._add("Mul", "moving", 0, self.numbers, 0, self.numbers)
        return self

    def resize(self, factor: int = 2) -> Sketch:
        before = self.numbers
        self.height, self.width = self.height * factor, self.width * factor
        self._add("Resize", "moving", 0, before, 0, self.numbers)
        return self

    def linear(self, out: int) -> Sketch:
        inputs = self.numbers
        self._add("Gemm", "pointwise", inputs * out, inputs, inputs * out, out)
        self.height = self.width = 1
        self.channels = out
        return self

    def squeeze_excite(self, hidden: int) -> Sketch:
        height, width, channels = self.height, self.width, self.channels
        self.global_pool().conv(hidden, 1).conv(channels, 1)
        self.height, self.width = height, width
        return self.activation()

    def at(self, height: int, width: int, channels: int) -> Sketch:
        """Goes on from another tensor."""
        self.height, self.width, self.channels = height, width, channels
        return self

    @property
    def place(self) -> tuple[int, int, int]:
        return self.height, self.width, self.channels

    def _shrink(self, tall: int, wide: int, stride: int, valid: bool) -> None:
        if valid:
            self.height, self.width = (self.height - tall) // stride + 1, (self.width - wide) // stride + 1
        else:
            self.height, self.width = -(-self.height // stride), -(-self.width // stride)

    def _add(self, type: str, kind: str, macs: int, inputs: int, weights: int, outputs: int) -> None:
        name = f"{type.lower()}_{len(self.operations)}"
        self.operations.append(Operation(name, type, kind, macs, inputs, weights, outputs))
