"""ONNX to TFLite with onnx2tf, in an environment of its own (it pins NumPy and others, and wants Python 3.12 or 3.13).

Its `flatbuffer_direct` way, the default since 2.6, writes the file without TensorFlow. Channels come last in the
result. Its half-precision file is for accelerators that compute so: on CPUs LiteRT runs it not at all ("FLOAT16 not
currently supported"). So fp16 is made of the fp32 file by Google's ai-edge-quantizer, which stores the weights in half
precision and leaves the rest.

Quantised files are the business of the optimise room, which starts from the fp32 file.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edge_vision.inference.conversion import environments
from edge_vision.inference.conversion.contract import ConversionError, Produced, Progress, Source

NEEDS = "Python 3.12 or 3.13 and, the first time, the network (onnx2tf, 240 MB; for fp16 ai-edge-quantizer, 290 MB)"
PRECISIONS = ("fp32", "fp16")
SUFFIX = ".tflite"
PLAIN = True

# Of what each requires, that which is imported on the way that is taken here: 240 instead of 661 MB for onnx2tf.
ENVIRONMENT = environments.Environment(
    "onnx2tf",
    "2.6.7",
    (
        "onnx2tf==2.6.7",
        "numpy==2.2.6",
        "onnx==1.20.1",
        "protobuf==7.35.1",
        "ml-dtypes==0.5.4",
        "typing-extensions==4.16.0",
        "flatbuffers==25.12.19",
        "ai-edge-litert==2.1.2",
        "psutil==5.9.5",
        "sng4onnx==2.0.1",
        "tqdm==4.67.1",
    ),
    oldest=(3, 12),
    newest=(3, 13),
    size=240,
)
QUANTIZER = environments.Environment(
    "ai-edge-quantizer",
    "0.10.0",
    (
        "ai-edge-quantizer==0.10.0",
        "ai-edge-litert==2.3.0",
        "numpy==2.2.6",
        "scipy==1.15.3",
        "ml-dtypes==0.5.4",
        "flatbuffers==25.12.19",
        "absl-py==2.5.1",
        "immutabledict==4.3.1",
        "typing-extensions==4.16.0",
        "tqdm==4.67.1",
    ),
    newest=(3, 13),
    size=290,
)

# Weights of convolutions and matrix products as float16, each with a DEQUANTIZE in front of its operator.
_HALVE = """
import sys
from ai_edge_quantizer import qtyping, quantizer
halves = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
weights_only = qtyping.OpQuantizationConfig(
    weight_tensor_config=halves, compute_precision=qtyping.ComputePrecision.FLOAT, explicit_dequantize=True
)
work = quantizer.Quantizer(sys.argv[1])
work.update_quantization_recipe(".*", qtyping.TFLOperationName.ALL_SUPPORTED, weights_only, "float_casting")
work.quantize().export_model(sys.argv[2])
"""


def available() -> str | None:
    return environments.unavailable(ENVIRONMENT)


def convert(source: Source, precision: str, folder: Path, progress: Progress) -> Produced:
    """See the package. fp16 stores the weights in half precision; the runtime unpacks them and computes in fp32."""
    home = environments.ensure(ENVIRONMENT, progress)
    progress(f"onnx2tf converts {source.path.name}")
    # -nuo: graph.py has simplified the graph already; -coion: tensors keep their names.
    command = [home / "bin" / "onnx2tf", "-i", source.path, "-o", folder, "-nuo", "-coion", "-n"]
    output = environments.run(ENVIRONMENT, command, folder)
    path = folder / f"{source.path.stem}_float32.tflite"
    if not path.is_file():
        problem = f"onnx2tf {ENVIRONMENT.version} wrote no {path.name}: {environments.last_lines(output)}"
        raise ConversionError(problem, "see whether it supports the model's operators")
    if precision == "fp16":
        home = environments.ensure(QUANTIZER, progress)
        progress("ai-edge-quantizer halves the weights")
        whole, path = path, folder / "halved.tflite"
        environments.run(QUANTIZER, [home / "bin" / "python", "-c", _HALVE, whole, path], folder)
    return Produced(path, replace(source.spec, layout="nhwc"))
