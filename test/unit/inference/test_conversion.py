"""Whole conversions with the real converters. Those are installed on demand, into the cache that users have too: made
once, shared by all runs; without a network the tests skip."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_vision.cli.main import main
from edge_vision.inference import BackendError, ModelError, load_bundle
from edge_vision.inference.backends import SessionOptions, backend
from edge_vision.inference.bundle import model_sha256
from edge_vision.inference.conversion import (
    TOLERANCES,
    ConversionError,
    convert,
    converting,
    environments,
    ncnn,
    tflite,
)
from edge_vision.inference.conversion.contract import Source
from edge_vision.inference.preprocess import Preprocessor

MAKING = 900  # s: the first run downloads the converters
pytestmark = pytest.mark.timeout(MAKING)

NEEDED = {
    ("litert", "fp32"): (tflite.ENVIRONMENT,),
    ("litert", "fp16"): (tflite.ENVIRONMENT, tflite.QUANTIZER),
    ("ncnn", "fp32"): (ncnn.ENVIRONMENT,),
    ("ncnn", "fp16"): (ncnn.ENVIRONMENT,),
}


@pytest.fixture
def require() -> Callable[[str, str], None]:
    """Skips, with the reason, where a conversion cannot be done here."""

    def check(target: str, precision: str) -> None:
        missing = backend(target).available()
        if missing:
            pytest.skip(f"{target}: {missing}")
        for environment in NEEDED[target, precision]:
            try:
                environments.ensure(environment, lambda line: None)
            except ConversionError as error:
                pytest.skip(f"{target} {precision}: {error}")

    return check


@pytest.fixture
def parts(repository: Path, tmp_path: Path) -> Path:
    """The bundled detector with its ONNX file alone."""
    source, folder = repository / "models" / "conveyor_parts", tmp_path / "parts"
    folder.mkdir()
    shutil.copyfile(source / "model.onnx", folder / "model.onnx")
    lines = (source / "model.yaml").read_text().splitlines(keepends=True)
    begin = next(index for index, line in enumerate(lines) if line.startswith("variants:"))
    end = next(index for index in range(begin + 1, len(lines)) if lines[index][0] not in " -")
    (folder / "model.yaml").write_text(
        "".join([*lines[: begin + 1], "- {backend: onnxruntime, file: model.onnx}\n", *lines[end:]])
    )
    return folder


@pytest.mark.parametrize(("target", "precision"), NEEDED)
def test_the_bundled_detector_goes_everywhere(parts: Path, require, target: str, precision: str) -> None:
    require(target, precision)
    before = load_bundle(parts)
    said: list[str] = []
    done = convert(before, target, precision, progress=said.append)
    assert done.error <= TOLERANCES[precision]
    assert done.size > 400_000
    assert any("comparing" in line for line in said)
    after = load_bundle(parts)
    assert after.variants == (*before.variants, done.variant)
    assert (parts / "model.yaml").read_text().startswith("# Written by scripts/train_detector.py")
    variant = after.variants[-1]
    assert variant.path.parent == parts
    assert variant.sha256 == model_sha256(variant.path)
    assert variant.measured["raw_error"] == pytest.approx(done.error, rel=0.1)
    # Fed and read as the variant says, it gives what the decoder reads.
    spec = variant.input
    assert spec is not None
    image = converting.noise(spec)
    session = backend(target).open(variant.path, SessionOptions(input_shapes={spec.name: spec.shape}))
    (output,) = session.run([Preprocessor(spec)(image)[0]])
    axes = variant.outputs[0].transpose if variant.outputs else ()
    reference = converting.prepare(before, False, parts).references[0]
    assert (output.transpose(axes) if axes else output).shape == reference.shape == (1, 1500, 12)
    np.testing.assert_allclose(
        output.transpose(axes) if axes else output, reference, atol=TOLERANCES[precision] * np.ptp(reference)
    )
    with pytest.raises(ConversionError, match=r"has model_.* already\. Use --force"):
        convert(after, target, precision)


def test_a_conversion_made_anew_takes_the_place_of_the_old(parts: Path, require) -> None:
    require("ncnn", "fp16")
    first = convert(load_bundle(parts), "ncnn", "fp16")
    assert convert(load_bundle(parts), "ncnn", "fp16", force=True).variant == first.variant
    assert len(load_bundle(parts).variants) == 2


def two_outputs(path: Path) -> Path:
    """A network with batch, height and width open, a reshape whose size is computed in the graph, and two outputs."""
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.normal(size=(8, 3, 3, 3)).astype(np.float32) / 5,
        "w2": rng.normal(size=(6, 8, 1, 1)).astype(np.float32),
        "w3": rng.normal(size=(5, 8, 1, 1)).astype(np.float32),
        "tail": np.array([6, -1]),
        "first": np.array([0]),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"]),
        helper.make_node("Shape", ["c"], ["sizes"]),
        helper.make_node("Gather", ["sizes", "first"], ["batch"]),
        helper.make_node("Concat", ["batch", "tail"], ["flat"], axis=0),
        helper.make_node("Reshape", ["c", "flat"], ["rows"]),
        helper.make_node("Sigmoid", ["rows"], ["scores"]),
        helper.make_node("Conv", ["b", "w3"], ["boxes"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, "h", "w"])
    results = [
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 6, "k"]),
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["n", 5, "h2", "w2"]),
    ]
    tables = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "test", [image], results, tables)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


CARD = """\
format: 1
name: two
task: detect
decoder: yolox
labels: [a]
input: {width: 48, height: 32, layout: nchw, dtype: float32, colour: rgb, scale: 0.01, resize: stretch}
variants:
- {backend: onnxruntime, file: two.onnx}
"""


@pytest.mark.parametrize("target", ["litert", "ncnn"])
def test_open_sizes_and_several_outputs(tmp_path: Path, require, target: str) -> None:
    require(target, "fp32")
    two_outputs(tmp_path / "two.onnx")
    (tmp_path / "model.yaml").write_text(CARD)
    bundle = load_bundle(tmp_path)
    done = convert(bundle, target)
    variant = done.variant
    assert done.error < 1e-4
    spec = variant.input or bundle.input
    names = tuple(output.name for output in variant.outputs)
    session = backend(target).open(variant.path, SessionOptions(input_shapes={spec.name: spec.shape}, outputs=names))
    results = session.run([Preprocessor(spec)(converting.noise(spec))[0]])
    axes = [output.transpose for output in variant.outputs] or [()] * 2
    turned = [r.transpose(order) if order else r for r, order in zip(results, axes, strict=True)]
    assert [array.shape for array in turned] == [(1, 6, 384), (1, 5, 16, 24)]
    for array, reference in zip(turned, converting.prepare(bundle, False, tmp_path).references, strict=True):
        np.testing.assert_allclose(array, reference, atol=1e-4 * np.ptp(reference))


def test_the_onnx_file_itself_is_handed_on_where_nothing_is_to_do(parts: Path, tmp_path: Path) -> None:
    prepared = converting.prepare(load_bundle(parts), False, tmp_path)
    assert prepared.source == Source(parts / "model.onnx", load_bundle(parts).input, ("output",))


def test_a_result_that_differs_is_refused_with_the_figure(parts: Path, tmp_path: Path, require) -> None:
    require("ncnn", "fp32")
    prepared = converting.prepare(load_bundle(parts), True, tmp_path)
    folder = tmp_path / "results"
    folder.mkdir()
    produced = ncnn.convert(prepared.source, "fp32", folder, lambda line: None)
    good = converting.check("ncnn", "fp32", produced, prepared)
    assert good.error < 1e-4
    weights = produced.path.with_suffix(".bin")
    values = np.frombuffer(weights.read_bytes(), np.float32).copy()
    values[1:-1] *= 1.05  # all weights, and the zeros that mark them
    weights.write_bytes(values.tobytes())
    with pytest.raises(
        ConversionError, match=r"differs from ONNX Runtime by [\d.e+]+ of the output's range; 0\.001 is"
    ):
        converting.check("ncnn", "fp32", produced, prepared)
    weights.write_bytes(b"")
    with pytest.raises(ConversionError, match="cannot be opened by ncnn"):
        converting.check("ncnn", "fp32", produced, prepared)


def test_layers_that_ncnn_does_not_know_are_named(tmp_path: Path) -> None:
    (tmp_path / "m.param").write_text("7767517\n3 3\nInput a 0 1 a\nTensor.to b 1 1 a b\naten::where c 1 1 b c\n")
    assert ncnn.unsupported(tmp_path / "m.param") == ["Tensor.to", "aten::where"]


def test_what_cannot_be_asked_for_is_refused(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = load_bundle(parts)
    with pytest.raises(ConversionError, match=r"conversion to litert does not make int8\. Choose one of fp32, fp16"):
        convert(bundle, "litert", "int8")
    monkeypatch.setattr(backend("ncnn"), "available", lambda: "it is not installed")
    if ncnn.available() is None:
        with pytest.raises(BackendError, match=r"backend ncnn cannot be used: it is not installed\. pip install ncnn"):
            convert(bundle, "ncnn")
    (parts / "model.yaml").write_text(
        (parts / "model.yaml").read_text().replace("onnxruntime,", "onnxruntime, precision: fp16,")
    )
    monkeypatch.undo()
    if ncnn.available() is None and backend("ncnn").available() is None:
        with pytest.raises(ModelError, match=r"has no fp32 \.onnx file"):
            convert(load_bundle(parts), "ncnn")


def test_the_command(parts: Path, tmp_path: Path, require, capsys: pytest.CaptureFixture[str]) -> None:
    require("ncnn", "fp32")
    bare = tmp_path / "net.onnx"
    shutil.copyfile(parts / "model.onnx", bare)
    assert main(["convert", str(bare), "--to", "ncnn", "--precision", "fp32,fp16"]) == 0
    shown = capsys.readouterr()
    assert f"bundle {tmp_path / 'net_bundle'}" in shown.out
    assert [line.split()[:3] for line in shown.out.splitlines()[2:4]] == [
        ["ncnn", "fp32", "made"],
        ["ncnn", "fp16", "made"],
    ]
    assert "pnnx converts" in shown.err
    made = load_bundle(tmp_path / "net_bundle")
    assert [(v.backend, v.precision) for v in made.variants] == [
        ("onnxruntime", "fp32"), ("ncnn", "fp32"), ("ncnn", "fp16"),
    ]  # fmt: skip
    assert main(["convert", str(bare), "--to", "ncnn", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["state"] for row in found["conversions"]] == ["there"]
    assert main(["convert", str(parts), "--to", "ncnn", "--precision", "int8", "--out", str(tmp_path / "b")]) == 1
    assert "makes fp32, fp16 only" in capsys.readouterr().out
    assert main(["convert", str(tmp_path / "none.onnx"), "--to", "ncnn"]) == 2
    assert "there is no such file" in capsys.readouterr().err
    with pytest.raises(SystemExit) as exit_:
        main(["convert", str(bare), "--to", "ncn"])
    assert exit_.value.code == 2
    assert "'ncn' is none of openvino, litert, ncnn" in capsys.readouterr().err
