"""Changes to a graph, in place: give these a copy (`Network.copied_graph`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edge_vision.optimize.graphs.view import View, constant_value


def set_initialisers(proto: onnx.ModelProto, values: Mapping[str, NDArray]) -> None:
    """Gives initialisers new values, of any shape and type; names that the graph does not have are added."""
    left = dict(values)
    for tensor in proto.graph.initializer:
        if tensor.name in left:
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(left.pop(tensor.name), order="C"), tensor.name))
    for name, value in left.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(value, order="C"), name))


def constants_to_initialisers(proto: onnx.ModelProto) -> None:
    """Constant nodes become initialisers of the same name, so that there is one kind of constant."""
    kept = []
    for node in proto.graph.node:
        value = constant_value(node) if node.op_type == "Constant" else None
        if value is None:
            kept.append(node)
        else:
            proto.graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
    replace_nodes(proto, kept)


def replace_nodes(proto: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """The graph gets these nodes, which may be its own."""
    copies = []
    for node in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copies.append(copy)
    del proto.graph.node[:]
    proto.graph.node.extend(copies)


def sort_nodes(proto: onnx.ModelProto) -> None:
    """Puts every node behind those that it reads, in place, as ONNX asks; otherwise the order stays."""
    made = {name for node in proto.graph.node for name in node.output}
    known = {""}
    left, order = list(proto.graph.node), []
    while left:
        waiting = []
        for node in left:
            if all(name in known or name not in made for name in node.input):
                order.append(node)
                known.update(node.output)
            else:
                waiting.append(node)
        if len(waiting) == len(left):
            raise ValueError(f"{waiting[0].op_type} {waiting[0].name} reads what it makes itself")
        left = waiting
    replace_nodes(proto, order)


def fresh_name(proto: onnx.ModelProto, wanted: str) -> str:
    """A tensor name that the graph does not have yet."""
    graph = proto.graph
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    taken |= {item.name for item in (*graph.initializer, *graph.input, *graph.output)}
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    return name


def read_instead(proto: onnx.ModelProto, old: str, new: str) -> None:
    """Every node that reads tensor `old` reads `new`."""
    for node in proto.graph.node:
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new


def bypass(proto: onnx.ModelProto, node: onnx.NodeProto, source: str) -> bool:
    """Takes a node of one used output out: its readers read `source`.

    Where its output is one of the graph's, what makes `source` makes that name; False, and nothing changed, where that
    cannot be (`source` is an input, an initialiser or an output itself)."""
    output = node.output[0]
    outputs = {o.name for o in proto.graph.output}
    if output in outputs:
        maker = next((n for n in proto.graph.node if source in n.output), None)
        if maker is None or source in outputs:
            return False
        proto.graph.node.remove(node)
        read_instead(proto, source, output)
        maker.output[list(maker.output).index(source)] = output
        return True
    proto.graph.node.remove(node)
    read_instead(proto, output, source)
    return True


def remove_dead(proto: onnx.ModelProto) -> int:
    """Removes nodes and initialisers that lead to no output; returns how many nodes. The order is kept."""
    graph = proto.graph
    makers = {name: index for index, node in enumerate(graph.node) for name in node.output}
    wanted: set[str] = set()
    waiting = [output.name for output in graph.output]
    while waiting:
        name = waiting.pop()
        if name in wanted:
            continue
        wanted.add(name)
        if name in makers:
            node = graph.node[makers[name]]
            waiting.extend(node.input)
            for item in node.attribute:  # what a branch or a loop's body reads from outside
                for body in (item.g, *item.graphs):
                    waiting.extend(name for inner in body.node for name in inner.input)
    kept = [node for node in graph.node if not wanted.isdisjoint(node.output)]
    removed = len(graph.node) - len(kept)
    if removed:
        replace_nodes(proto, kept)
    unread = [tensor for tensor in graph.initializer if tensor.name not in wanted]
    for tensor in unread:
        graph.initializer.remove(tensor)
    names = {tensor.name for tensor in unread}
    for value in [value for value in graph.input if value.name in names]:
        graph.input.remove(value)
    return removed


def merge_duplicates(proto: onnx.ModelProto) -> int:
    """One initialiser for all of the same type, shape and bytes; returns how many went. The first name stays.

    Weights and biases of layers stay each layer's own, or training would tie them."""
    own = {name for layer in View(proto).layers for name in (layer.name, layer.bias)}
    first: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    doubles: dict[str, str] = {}
    outputs = {output.name for output in proto.graph.output}
    for tensor in proto.graph.initializer:
        if tensor.name in own:
            continue
        key = (tensor.data_type, tuple(tensor.dims), numpy_helper.to_array(tensor).tobytes())
        name = first.setdefault(key, tensor.name)
        if name != tensor.name and tensor.name not in outputs:
            doubles[tensor.name] = name
    for node in proto.graph.node:
        for index, name in enumerate(node.input):
            if name in doubles:
                node.input[index] = doubles[name]
    remove_dead(proto)
    return len(doubles)


def drop_notes(proto: onnx.ModelProto) -> None:
    """Removes documentation strings and the stated shapes of inner tensors, which may no longer hold."""
    del proto.graph.value_info[:]
    proto.doc_string = ""
    proto.graph.doc_string = ""
    for node in proto.graph.node:
        node.doc_string = ""
        for item in node.attribute:
            item.doc_string = ""
    for tensor in proto.graph.initializer:
        tensor.doc_string = ""
