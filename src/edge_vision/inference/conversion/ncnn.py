"""ONNX to ncnn with pnnx, ncnn's own converter, in an environment of its own (its wheel asks for torch, its program
does not).

int8 is the business of the optimise room (ncnn2table and ncnn2int8 start from this one's fp32).
"""

from __future__ import annotations

from pathlib import Path

from edge_vision.inference.conversion import environments
from edge_vision.inference.conversion.contract import ConversionError, Produced, Progress, Source

NEEDS = "the first time, the network (pnnx, 110 MB)"
PRECISIONS = ("fp32", "fp16")
SUFFIX = ".param"
PLAIN = True

ENVIRONMENT = environments.Environment("pnnx", "20261020", ("pnnx==20261020",), size=110)


def available() -> str | None:
    return environments.unavailable(ENVIRONMENT)


def convert(source: Source, precision: str, folder: Path, progress: Progress) -> Produced:
    """See the package. fp16 stores the weights in half precision, pnnx's own default."""
    home = environments.ensure(ENVIRONMENT, progress)
    found = sorted(home.glob("lib/python3*/site-packages/pnnx/pnnx"))
    if not found:
        raise ConversionError(f"pnnx has no program in {home}", f"remove {home}, so that it is made anew")
    progress(f"pnnx converts {source.path.name}")
    # It writes beside its input and takes no folder.
    model = folder / "model.onnx"
    model.write_bytes(source.path.read_bytes())
    shape = ",".join(map(str, source.spec.shape))
    command = [found[0], model.name, f"inputshape=[{shape}]f32", f"fp16={int(precision == 'fp16')}"]
    output = environments.run(ENVIRONMENT, command, folder)
    path = folder / "model.ncnn.param"
    if not path.is_file():
        problem = f"pnnx {ENVIRONMENT.version} wrote no {path.name}: {environments.last_lines(output)}"
        raise ConversionError(problem, "see whether it supports the model's operators")
    unknown = unsupported(path)
    if unknown:
        problem = f"pnnx {ENVIRONMENT.version} cannot express {', '.join(unknown)} in ncnn"
        raise ConversionError(problem, "use another backend for this model, or export it without these operators")
    return Produced(path, source.spec)


def unsupported(param: Path) -> list[str]:
    """Layers that pnnx passed through because ncnn has none for them: their types are PyTorch's, with a dot or a
    colon."""
    types = {line.split()[0] for line in param.read_text(encoding="utf-8").splitlines()[2:] if line.strip()}
    return sorted(kind for kind in types if "." in kind or "::" in kind)
