"""Residual blocks, y = x + f(x), which a shallower network can do without."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from edge_vision.optimize.graphs.editing import bypass, remove_dead
from edge_vision.optimize.graphs.shapes import Shape, static_shapes
from edge_vision.optimize.graphs.view import View


@dataclass(frozen=True)
class Block:
    """sum: the tensor that the Add makes; identity: x; shape: of both; layers: weights that only f has."""

    sum: str
    identity: str
    shape: Shape
    layers: tuple[str, ...]


def residual_blocks(proto: onnx.ModelProto) -> tuple[Block, ...]:
    """Blocks in the graph's order: an Add of x and of what is made from x alone, of the same size, with weights."""
    view = View(proto)
    shapes = static_shapes(proto)
    layers = {layer.node.output[0]: layer.name for layer in view.layers}
    found = []
    for node in proto.graph.node:
        if node.op_type != "Add" or len(node.input) != 2:
            continue
        for identity, branch in (tuple(node.input), tuple(node.input)[::-1]):
            inner = _between(view, identity, branch)
            if inner and shapes.get(identity) == shapes.get(node.output[0]) != None:  # noqa: E711
                names = tuple(layers[name] for name in inner if name in layers)
                if names:
                    found.append(Block(node.output[0], identity, shapes[identity], names))
                    break
    return tuple(found)


def _between(view: View, source: str, end: str) -> list[str]:
    """Tensors on the way from `source` to `end`, where nothing else but constants comes in; else none."""
    if source in view.initialisers:
        return []
    seen: list[str] = []
    waiting = [end]
    reached = False
    while waiting:
        name = waiting.pop()
        if name == source:
            reached = True
            continue
        if name in seen or name in view.initialisers:
            continue
        if name not in view.producers:
            return []
        seen.append(name)
        waiting.extend(filter(None, view.producers[name].input))
    return seen if reached else []


def drop_blocks(proto: onnx.ModelProto, count: int) -> list[str]:
    """Takes so many blocks out, in place: always the last one of the size of which most are left. Returns the weights
    that went, block by block, joined with "+"; fewer where there are no more."""
    dropped: list[str] = []
    while len(dropped) < count:
        blocks = residual_blocks(proto)
        if not blocks:
            break
        often = max((block.shape for block in blocks), key=lambda s: sum(b.shape == s for b in blocks))
        block = [block for block in blocks if block.shape == often][-1]
        node = next(node for node in proto.graph.node if block.sum in node.output)
        if not bypass(proto, node, block.identity):
            break
        remove_dead(proto)
        dropped.append("+".join(sorted(block.layers)))
    return dropped
