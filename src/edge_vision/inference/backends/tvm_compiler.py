"""The compiler behind `tvm_`: an ONNX file in, a shared library out. Runs in a process of its own.

    python -m edge_vision.inference.backends.tvm_compiler '{"model": ..., "library": ..., "shapes": {...}}'

The library holds `main`, the model, and `signature`, a JSON text as bytes: what it was made
for, and names, shapes and types of what goes in and comes out.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from edge_vision.inference.backends.shapes import filled_specs
from edge_vision.inference.backends.tvm_ import host_target, import_runtime, version
from edge_vision.inference.backends.tvm_schedule import compile_model
from edge_vision.inference.onnx_header import OnnxHeader, read_onnx_header


def main(job: dict[str, Any]) -> None:
    tvm = import_runtime()
    import onnx
    from tvm import relax
    from tvm.relax.frontend.onnx import from_onnx

    header = read_onnx_header(Path(job["model"]))
    shapes = _shapes(header, {name: tuple(shape) for name, shape in job["shapes"].items()})
    module = from_onnx(onnx.load(job["model"]), shape_dict=shapes, keep_params_in_input=False)
    target = host_target(tvm)
    card = {"made_for": {"version": version(), "target": target}, **_tensors(header, shapes, module)}
    try:
        module["signature"] = _constant(relax, {**card, "loops": "ordered"})
        executable = compile_model(tvm, module, tvm.target.Target(target))
    except Exception as error:  # another TVM's insides: its own pipeline is slow, and works
        print(f"loops left as they are: {error}", file=sys.stderr)
        module["signature"] = _constant(relax, {**card, "loops": "plain"})
        executable = tvm.compile(module, target=tvm.target.Target(target))
    executable.export_library(job["library"])


def _shapes(header: OnnxHeader, given: dict[str, tuple[int, ...]]) -> dict[str, list[int]]:
    """Whole shapes of all inputs: those given, and those of the file."""
    shapes: dict[str, list[int]] = {}
    for spec in filled_specs(header.inputs, given):
        if None in spec.shape:
            raise SystemExit(
                f"the input {spec} leaves sizes open, TVM compiles for fixed ones: export with a fixed size"
            )
        shapes[spec.name] = [int(size) for size in spec.shape if size is not None]
    return shapes


def _tensors(header: OnnxHeader, shapes: dict[str, list[int]], module: Any) -> dict[str, Any]:
    kinds = module["main"].ret_ty
    fields = list(kinds.fields) if hasattr(kinds, "fields") else [kinds]
    return {
        "inputs": [{"name": spec.name, "shape": shapes[spec.name], "dtype": spec.dtype} for spec in header.inputs],
        "outputs": [
            {"name": spec.name, "shape": [int(size) for size in kind.shape], "dtype": spec.dtype}
            for spec, kind in zip(header.outputs, fields, strict=True)
        ],
    }


def _constant(relax: Any, card: dict[str, Any]) -> Any:
    """A function that returns `card` as JSON, in bytes."""
    builder = relax.BlockBuilder()
    with builder.function("signature", []):
        builder.emit_func_output(relax.const(np.frombuffer(json.dumps(card).encode(), np.uint8)))
    return builder.finalize()["signature"]


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
