"""The parts of a conversion: the graph made plain, outputs matched by value, model.yaml edited, environments made."""

from __future__ import annotations

import base64
import hashlib
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edge_vision.inference import ModelError, Variant, load_bundle
from edge_vision.inference.bundle import OutputSpec
from edge_vision.inference.conversion import TARGETS, ConversionError, bundle_writer, converter, environments, graph
from edge_vision.inference.conversion.matching import error, match
from edge_vision.inference.preprocess import InputSpec

KINDS = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8, "float16": TensorProto.FLOAT16}


# --- graph ---------------------------------------------------------------------------------------------------------


def model_of(
    nodes: list, shape: tuple, dtype: str, out: tuple = (1, "a", "b", "c"), name: str = "images"
) -> onnx.ModelProto:
    image = helper.make_tensor_value_info(name, KINDS[dtype], shape)
    result = helper.make_tensor_value_info("result", TensorProto.FLOAT, out)
    made = helper.make_graph(nodes, "test", [image], [result])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(model: onnx.ModelProto, image: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: image})[0]


def node(kind: str, takes: str, gives: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(kind, [takes], [gives], **attributes)


HEADS = {
    "cast, transpose": ("uint8", "nhwc", [("Cast", {"to": 1}), ("Transpose", {"perm": [0, 3, 1, 2]})]),
    "transpose, cast": ("uint8", "nhwc", [("Transpose", {"perm": [0, 3, 1, 2]}), ("Cast", {"to": 1})]),
    "cast alone": ("uint8", "nchw", [("Cast", {"to": 1}), ("Identity", {})]),
    "nothing": ("float32", "nchw", []),
    "channels last throughout": ("float32", "nhwc", []),
    "there and back": (
        "float32", "nhwc", [("Transpose", {"perm": [0, 3, 1, 2]}), ("Transpose", {"perm": [0, 2, 3, 1]})]
    ),
    "half": ("float16", "nchw", [("Cast", {"to": 1})]),
}  # fmt: skip


@pytest.mark.parametrize("head", HEADS)
def test_the_plain_graph_computes_the_same_from_floats(head: str) -> None:
    dtype, layout, steps = HEADS[head]
    spec = InputSpec(width=6, height=4, name="images", layout=layout, dtype=dtype)
    nodes, tensor = [], "images"
    for index, (kind, attributes) in enumerate(steps):
        nodes.append(node(kind, tensor, f"t{index}", **attributes))
        tensor = f"t{index}"
    nodes.append(node("LeakyRelu", tensor, "result", alpha=0.5))
    model = model_of(nodes, spec.shape, dtype)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))[None]
    expected = run(model, (pixels[None] if layout == "nhwc" else planes).astype(dtype))
    fed = graph.make_plain(model, spec)
    onnx.checker.check_model(model)
    assert (fed.layout, fed.dtype, fed.name) == ("nchw", "float32", "images")
    np.testing.assert_array_equal(run(model, planes.astype(np.float32)), expected)
    if head in ("cast, transpose", "transpose, cast", "cast alone", "nothing"):
        assert [n.op_type for n in model.graph.node] == ["LeakyRelu"]


def test_a_head_that_others_read_too_stays() -> None:
    nodes = [
        node("Cast", "images", "pixels", to=1),
        node("Relu", "pixels", "a"),
        node("Neg", "pixels", "b"),
        helper.make_node("Add", ["a", "b"], ["result"]),
    ]
    spec = InputSpec(width=6, height=4, name="images", dtype="uint8")
    model = model_of(nodes, spec.shape, "uint8")
    graph.make_plain(model, spec)
    assert [n.op_type for n in model.graph.node] == ["Relu", "Neg", "Add"]
    assert not run(model, np.full(spec.shape, 9, np.float32)).any()


def test_open_sizes_are_fixed_and_what_follows_from_them_computed(tmp_path: Path) -> None:
    nodes = [
        node("Shape", "images", "sizes"),
        helper.make_node("Gather", ["sizes", "first"], ["batch"]),
        helper.make_node("Concat", ["batch", "rest"], ["wanted"], axis=0),
        helper.make_node("Reshape", ["images", "wanted"], ["flat"]),
        helper.make_node("Mul", ["flat", "factor"], ["result"]),
    ]
    model = model_of(nodes, ("batch", 3, "height", "width"), "float32", ("batch", "n"))
    model.graph.initializer.extend(
        [
            onnx.numpy_helper.from_array(np.array([0]), "first"),
            onnx.numpy_helper.from_array(np.array([-1]), "rest"),
        ]
    )
    model.graph.input.append(helper.make_tensor_value_info("factor", TensorProto.FLOAT, [1]))
    assert not graph.is_fixed(model)
    spec = InputSpec(width=6, height=4, name="images")
    graph.fix(model, spec, {"factor": np.array([2], np.float32)}, {"result": (1, 72)})
    assert graph.is_fixed(model)
    path = graph.save(model, tmp_path / "fixed.onnx")
    graph.simplify(path)
    simple = onnx.load(path)
    assert sorted(n.op_type for n in simple.graph.node) == ["Mul", "Reshape"]
    assert [entry.domain for entry in simple.opset_import] == [""]
    image = np.arange(72, dtype=np.float32).reshape(spec.shape)
    np.testing.assert_array_equal(run(simple, image), image.reshape(1, 72) * 2)


def test_a_file_that_is_no_onnx_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_text("<html>")
    with pytest.raises(ModelError, match=r"m\.onnx: onnx cannot read it"):
        graph.load(tmp_path / "m.onnx")


# --- matching ------------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_turned_and_mixed_outputs_are_found_by_their_values(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    shapes = data.draw(st.lists(st.lists(st.integers(2, 4), min_size=1, max_size=4), min_size=1, max_size=3))
    references = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    order = data.draw(st.permutations(range(len(shapes))))
    results = []
    for index in order:
        axes = data.draw(st.permutations(range(references[index].ndim)))
        results.append(references[index].transpose(axes) + np.float32(1e-7))
    found = match(results, references)
    assert found is not None
    for (index, axes, worst), reference in zip(found, references, strict=True):
        turned = results[index].transpose(axes) if axes else results[index]
        np.testing.assert_allclose(turned, reference, atol=1e-6)
        assert worst * np.ptp(reference) < 1e-6  # the error is relative to the range, which may be small


def test_axes_stay_where_turning_them_changes_nothing() -> None:
    reference = np.ones((1, 4, 4), np.float32)
    assert match([reference], [reference]) == [(0, (), 0.0)]


def test_outputs_that_are_of_another_shape_match_nothing() -> None:
    assert match([np.zeros((1, 4, 5))], [np.zeros((1, 4, 4))]) is None
    assert match([np.zeros((4, 4))], [np.zeros((1, 4, 4))]) is None
    assert match([np.zeros(4)], [np.zeros(4), np.zeros(4)]) is None


def test_the_error_is_relative_to_the_range() -> None:
    assert error(np.array([0.0, 10.5]), np.array([0.0, 10.0])) == pytest.approx(0.05)
    assert error(np.array([np.nan, 1]), np.array([0.0, 1.0])) == float("inf")
    assert error(np.array([5.1, 5.1]), np.array([5.0, 5.0])) == pytest.approx(0.02)
    assert error(np.zeros(0), np.zeros(0)) == 0


# --- model.yaml ----------------------------------------------------------------------------------------------------

CARD = """\
# by hand
format: 1
name: parts   # what it finds
task: detect
decoder: yolox
labels: [nut, bolt]
input: {name: images, width: 96, height: 64, layout: nhwc, dtype: uint8, colour: bgr, resize: letterbox}
decoder_options: {strides: [8, 16, 32]}
variants:
VARIANTS
# the end
license: Apache-2.0
"""
STYLES = {
    "block": "  # the original\n  - backend: onnxruntime\n    file: model.onnx   # trained in May\n",
    "at the margin": "- backend: onnxruntime\n  file: model.onnx\n  measured:\n    map50: 0.9\n",
    "items in braces": "  - {backend: onnxruntime, file: model.onnx, measured: {map50: 0.9}}\n",
    "in brackets": "  [{backend: onnxruntime, file: model.onnx, measured: {map50: 0.9}}]\n",
}


@pytest.fixture
def folder(tmp_path: Path, write_model: Callable[..., Path]) -> Path:
    write_model({"output": np.zeros((1, 126, 7))}, (1, 64, 96, 3), "uint8")
    (tmp_path / "small.tflite").write_bytes(b"one")
    return tmp_path


@pytest.mark.parametrize("style", STYLES)
def test_a_variant_is_added_and_the_rest_left_as_it_was(folder: Path, style: str) -> None:
    text = CARD.replace("VARIANTS\n", STYLES[style])
    (folder / "model.yaml").write_text(text)
    bundle = load_bundle(folder)
    fed = replace(bundle.input, dtype="float32", layout="nhwc")
    variant = Variant(
        "litert", "fp32", folder / "small.tflite", measured={"raw_error": 1e-6}, input=fed,
        outputs=(OutputSpec("b", (0, 2, 1)), OutputSpec("a")),
    )  # fmt: skip
    after = bundle_writer.add_variant(bundle, variant)
    assert after.variants == (bundle.variants[0], variant)
    written = (folder / "model.yaml").read_text()
    kept = [line for line in text.splitlines() if line.strip() and (style != "in brackets" or "backend" not in line)]
    assert [line for line in written.splitlines() if line in kept] == kept
    # Another one of the same kind takes its place.
    (folder / "smaller.tflite").write_bytes(b"two")
    again = Variant("litert", "fp32", folder / "smaller.tflite", input=fed)
    other = Variant("ncnn", "fp32", folder / "small.tflite")
    bundle_writer.add_variant(after, other)
    final = bundle_writer.add_variant(load_bundle(folder), again)
    assert final.variants == (bundle.variants[0], again, other)
    written = (folder / "model.yaml").read_text()
    assert [line for line in written.splitlines() if line in kept] == kept
    assert sorted(file.name for file in folder.iterdir()) == [
        "model.onnx",
        "model.yaml",
        "small.tflite",
        "smaller.tflite",
    ]


def test_a_card_that_would_not_load_leaves_the_old_one(folder: Path) -> None:
    text = CARD.replace("VARIANTS\n", STYLES["block"])
    (folder / "model.yaml").write_text(text)
    bundle = load_bundle(folder)
    with pytest.raises(ModelError, match=r"none\.tflite, which is not there"):
        bundle_writer.add_variant(bundle, Variant("litert", "fp32", folder / "none.tflite"))
    assert (folder / "model.yaml").read_text() == text
    assert not list(folder.glob(".model-*"))


def test_a_bare_file_gets_a_bundle(folder: Path) -> None:
    bare = load_bundle(folder / "model.onnx", labels=["nut", "bolt"], colour="rgb")
    made = bundle_writer.home(bare)
    assert made.folder == folder / "model_bundle"
    assert (made.input, made.labels, made.decoder, made.thresholds) == (
        bare.input,
        bare.labels,
        "yolox",
        bare.thresholds,
    )
    assert (made.folder / "model.onnx").read_bytes() == (folder / "model.onnx").read_bytes()
    assert len(made.variants[0].sha256) == 64
    assert bundle_writer.home(bare) == made  # the second time it is there
    card = yaml.safe_load(made.file.read_text())
    assert card["input"]["colour"] == "rgb"


def test_a_bundle_goes_elsewhere_whole(folder: Path, tmp_path: Path) -> None:
    text = CARD.replace("VARIANTS\n", STYLES["block"]).replace("[nut, bolt]", "names.txt")
    (folder / "model.yaml").write_text(text)
    (folder / "names.txt").write_text("nut\nbolt\n")
    bundle = load_bundle(folder)
    copy = bundle_writer.home(bundle, tmp_path / "deep" / "copy")
    assert copy.file.read_text() == text
    assert copy.labels == ("nut", "bolt")
    assert bundle_writer.home(bundle) is bundle
    # A folder that holds another model's bundle is not touched.
    (tmp_path / "deep" / "copy" / "model.onnx").write_bytes(b"other")
    with pytest.raises(ModelError, match=r"is the bundle of another model than .*Name another folder with --out"):
        bundle_writer.home(bundle, tmp_path / "deep" / "copy")


# --- registry ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_has_its_converter(target: str) -> None:
    module = converter(target)
    assert module.NEEDS
    assert "fp32" in module.PRECISIONS
    assert module.SUFFIX.startswith(".")
    assert isinstance(module.PLAIN, bool)


def test_an_unknown_target_is_refused() -> None:
    with pytest.raises(ConversionError, match=r"no conversion to 'onnx'\. Choose one of openvino, litert, ncnn"):
        converter("onnx")


# --- environments --------------------------------------------------------------------------------------------------


def wheel(folder: Path) -> Path:
    """The smallest of packages."""
    path = folder / "tiny_part-1.0-py3-none-any.whl"
    files = {
        "tiny_part.py": "VALUE = 42\n",
        "tiny_part-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny-part\nVersion: 1.0\n",
        "tiny_part-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip('=')},{len(text)}"
        for name, text in files.items()
    ]
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr("tiny_part-1.0.dist-info/RECORD", "\n".join([*rows, "tiny_part-1.0.dist-info/RECORD,,"]))
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGE_VISION_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def python_that_makes_environments() -> None:
    try:
        environments.find_python(environments.Environment("any", "1", ()))
    except ConversionError as problem:
        pytest.skip(f"no Python here can make a virtual environment: {problem}")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[environments.Environment, list[str]]]:
    """An environment that two have asked for at once, and what they were told."""
    python_that_makes_environments()
    folder = tmp_path_factory.mktemp("environments")
    environment = environments.Environment("tiny", "1.0", (str(wheel(folder)),))
    said: list[str] = []
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            environments.ensure(environment, said.append)
        except BaseException as failure:
            failures.append(failure)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGE_VISION_CACHE", str(folder / "cache"))
        askers = [threading.Thread(target=ask) for _ in range(2)]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join()
        assert not failures
        yield environment, said


def test_an_environment_is_made_once_for_two_who_ask(tiny, tmp_path: Path) -> None:
    environment, said = tiny
    assert environment.ready
    assert sum("making an environment" in line for line in said) == 1
    assert environments.ensure(environment, said.append) == environment.folder
    python = environment.folder / "bin" / "python"
    code = "import os, tiny_part; print(tiny_part.VALUE, os.environ['PATH'].split(':')[0])"
    assert environments.run(environment, [python, "-c", code], tmp_path).split() == ["42", str(python.parent)]


def test_a_program_that_fails_is_quoted(tiny, tmp_path: Path) -> None:
    environment, _ = tiny
    python = environment.folder / "bin" / "python"
    with pytest.raises(ConversionError, match=r"tiny 1\.0 failed \(exit code 3\): no such operator"):
        environments.run(environment, [python, "-c", "print('no such operator'); raise SystemExit(3)"], tmp_path)
    with pytest.raises(ConversionError, match="tiny took longer than 0 s"):
        environments.run(environment, [python, "-c", "import time; time.sleep(9)"], tmp_path, limit=0.3)
    with pytest.raises(ConversionError, match=r"tiny cannot be started.*so that it is made anew"):
        environments.run(environment, [tmp_path / "none"], tmp_path)


def test_without_an_index_the_reason_is_told(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment, _ = tiny
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    python = environment.folder / "bin" / "python"
    log = tmp_path / "pip.log"
    with (
        log.open("w") as output,
        pytest.raises(ConversionError, match=r"tiny 1\.0 could not be made: .*cannot be reached .*pip\.log.*Connect"),
    ):
        environments.step([python, "-m", "pip", "install", "no-such-part==1.0"], output, environment, log)


def test_what_fails_half_way_leaves_nothing(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = environments.Environment("broken", "1.0", ())
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\n[ "$1" = -c ] && echo 3 12 && exit\nmkdir -p "$3"; echo ERROR: disk full; exit 1\n')
    python.chmod(0o755)
    monkeypatch.setenv(environment.override, str(python))
    with pytest.raises(ConversionError, match=r"broken 1\.0 could not be made: ERROR: disk full \(.*pip\.log\)"):
        environments.ensure(environment, lambda line: None)
    assert not environment.folder.exists()
    assert environment.folder.is_relative_to(cache)


def test_the_python_named_must_fit(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = environments.Environment("some-tool", "1.0", (), oldest=(3, 98), newest=(3, 98))
    assert environment.override == "EDGE_VISION_PYTHON_SOME_TOOL"
    with pytest.raises(ConversionError, match=r"needs Python 3\.98, and none is here.*EDGE_VISION_PYTHON_SOME_TOOL"):
        environments.find_python(environment)
    monkeypatch.setenv(environment.override, str(tmp_path / "python"))
    with pytest.raises(ConversionError, match=r"names .*python, which does not run.*Name a Python 3\.98"):
        environments.find_python(environment)
    (tmp_path / "python").write_text("#!/bin/sh\necho 3 97\n")
    (tmp_path / "python").chmod(0o755)
    with pytest.raises(ConversionError, match=r"which is Python 3\.97"):
        environments.find_python(environment)
    (tmp_path / "python").write_text("#!/bin/sh\necho 3 98\n")
    assert environments.find_python(environment) == tmp_path / "python"
