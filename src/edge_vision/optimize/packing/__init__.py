"""Models as they are shipped: weights entropy-coded, the graph compressed, unpacked when a bundle is loaded.

    content = pack(proto)                 # write it to model.onnx.evp and name that in model.yaml
    proto = unpack(content)               # every weight the same to the bit

The format, and the half that unpacks, which a robot needs, are `edge_vision.inference.packing`. It pays where weights
are quantised, sparse or clustered: those of a float model take about six sevenths of their bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_vision.inference.packing import SUFFIX, unpack_bytes
from edge_vision.optimize.packing.names import with_short_names
from edge_vision.optimize.packing.writer import Packed, pack_bytes

if TYPE_CHECKING:
    import onnx


def pack(proto: onnx.ModelProto, *, short_names: bool = True) -> bytes:
    """The packed form of a model; short_names: without what no runtime needs (`names.py`), else the same to the bit.

    Raises ValueError for a model whose weights lie in other files.
    """
    return pack_bytes(serialised(with_short_names(proto) if short_names else proto)).content


def unpack(content: bytes) -> onnx.ModelProto:
    """The model out of its packed form. Raises `inference.range_coder.Damaged`."""
    import onnx

    return onnx.load_from_string(unpack_bytes(content))


def serialised(proto: onnx.ModelProto) -> bytes:
    """The ONNX file of a model, its tensors as raw bytes. Raises ValueError where weights lie in other files."""
    import onnx
    from onnx import numpy_helper

    raw = onnx.ModelProto()
    raw.CopyFrom(proto)
    for tensor in raw.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ValueError(f"{tensor.name} lies in another file: load the model with its weights first")
        if not tensor.HasField("raw_data") and tensor.data_type != onnx.TensorProto.STRING:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    return raw.SerializeToString(deterministic=True)


__all__ = ["SUFFIX", "Packed", "pack", "pack_bytes", "serialised", "unpack", "with_short_names"]
