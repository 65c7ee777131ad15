"""What a runtime does not need of a graph: long inner names, stated shapes of inner values, comments."""

from __future__ import annotations

import string
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

_DIGITS = string.ascii_letters + string.digits


def with_short_names(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A graph that computes the same, its inner values and weights named a, b, ..., its nodes not at all, without
    comments and the shapes of inner values. Inputs, outputs and metadata stay; so does a graph with subgraphs, which
    refer to outer names."""
    import onnx

    small = onnx.ModelProto()
    small.CopyFrom(proto)
    graph = small.graph
    if small.functions or any(a.HasField("g") or a.graphs for node in graph.node for a in node.attribute):
        return small
    kept = {value.name for value in (*graph.input, *graph.output)} | {""}
    found = [tensor.name for tensor in graph.initializer] + [name for node in graph.node for name in node.output]
    taken = iter(_names(kept))
    short = {name: next(taken) for name in dict.fromkeys(found) if name not in kept}
    for tensor in graph.initializer:
        tensor.name = short.get(tensor.name, tensor.name)
        tensor.doc_string = ""
    for sparse in graph.sparse_initializer:
        sparse.values.name = short.get(sparse.values.name, sparse.values.name)
    for node in graph.node:
        node.name = node.doc_string = ""
        node.input[:] = [short.get(name, name) for name in node.input]
        node.output[:] = [short.get(name, name) for name in node.output]
        for attribute in node.attribute:
            attribute.doc_string = ""
    del graph.value_info[:]
    del graph.quantization_annotation[:]
    graph.doc_string = small.doc_string = ""
    return small


def _names(kept: set[str]) -> Iterator[str]:
    number = 0
    while True:
        name, rest = "", number
        while True:
            name += _DIGITS[rest % len(_DIGITS)]
            rest = rest // len(_DIGITS) - 1
            if rest < 0:
                break
        if name not in kept:
            yield name
        number += 1
