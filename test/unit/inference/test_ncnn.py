"""The ncnn backend on small models: the .param is text and the .bin raw numbers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_vision.inference.backends import SessionOptions, ncnn_
from edge_vision.inference.errors import BackendError, ModelError

if ncnn_.available():
    pytest.skip(f"ncnn: {ncnn_.available()}", allow_module_level=True)

PLUS_ONE = "BinaryOp plus 1 1 in0 out0 0=0 1=1 2=1.0"
SUM = "Convolution sum 1 1 in0 out0 0=2 1=1 5=1 6=6"  # 1x1 kernels: 3 channels to 2, with bias


def write(path: Path, *layers: str, weights: bytes = b"", inputs: str = "Input in0 0 1 in0") -> Path:
    lines = [inputs, *layers]
    blobs = sum(int(line.split()[3]) for line in lines)
    path.write_text("\n".join(["7767517", f"{len(lines)} {blobs}", *lines, ""]))
    path.with_suffix(".bin").write_bytes(weights)
    return path


def convolution(path: Path, half: bool = False) -> tuple[Path, np.ndarray, np.ndarray]:
    """SUM with its matrix (2, 3) and bias (2,)."""
    matrix = np.array([[1, 2, 3], [-1, 0, 0.5]], np.float32)
    bias = np.array([10, 20], np.float32)
    if half:
        weights = b"\x47\x6b\x30\x01" + matrix.astype(np.float16).tobytes() + bias.tobytes()
    else:
        weights = bytes(4) + matrix.tobytes() + bias.tobytes()
    return write(path, SUM, weights=weights), matrix, bias


@pytest.mark.parametrize("shape", [(1, 3, 5, 7), (1, 3, 8, 8), (1, 1, 3, 3), (1, 6, 7), (1, 5), (1, 2, 3, 4, 5)])
def test_shapes_come_back_with_their_batch(tmp_path: Path, shape: tuple[int, ...]) -> None:
    # A first layer that works in place: ncnn would crash on an array that is only lent, or write into it.
    session = ncnn_.open(write(tmp_path / "m.param", PLUS_ONE), SessionOptions())
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    (result,) = session.run([values])
    np.testing.assert_array_equal(result, values + 1)
    np.testing.assert_array_equal(values.ravel(), np.arange(values.size))
    later = [session.run([np.zeros(shape, np.float32)])[0] for _ in range(3)]
    np.testing.assert_array_equal(result, values + 1)  # results are their holder's
    session.close()
    np.testing.assert_array_equal(later[0], np.ones(shape))


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("size", [(5, 7), (8, 8), (1, 1)])
def test_an_input_is_read_where_it_lies(tmp_path: Path, size: tuple[int, int], half: bool) -> None:
    path, matrix, bias = convolution(tmp_path / "m.param", half)
    assert ncnn_.read_param(path).shareable == {"in0"}
    shape = (1, 3, *size)
    session = ncnn_.open(path, SessionOptions(threads=2, input_shapes={"in0": shape}))
    assert str(session.inputs[0]) == f"in0 float32 {list(shape)}"
    buffer = np.random.default_rng(0).random((1, 3, size[0], size[1] + 3), np.float32)
    for values in (np.ascontiguousarray(buffer[..., 3:]), buffer[..., 3:]):  # the second has gaps between its rows
        values.flags.writeable = False
        expected = np.einsum("oc,bchw->bohw", matrix, values) + bias[:, None, None]
        np.testing.assert_allclose(session.run([values])[0], expected, rtol=1e-5)


def test_what_it_says_of_itself(tmp_path: Path) -> None:
    session = ncnn_.open(convolution(tmp_path / "m.param")[0], SessionOptions(threads=2))
    described = session.describe()
    assert (described.backend, described.device, described.precision, described.threads) == ("ncnn", "cpu", "fp32", 2)
    assert described.runtime_version == ncnn_.version() != ""
    assert session.inputs[0].shape == session.outputs[0].shape == ()  # the file does not say
    half = ncnn_.open(convolution(tmp_path / "h.param", half=True)[0], SessionOptions(precision="fp16"))
    assert half.describe().precision == "fp16"
    brain = ncnn_.open(convolution(tmp_path / "b.param")[0], SessionOptions(precision="bf16"))
    assert brain.describe().precision == "bf16"


def test_outputs_are_the_blobs_that_nobody_takes_or_those_named(tmp_path: Path) -> None:
    layers = (
        "Split fork 1 2 in0 a b",
        "BinaryOp one 1 1 a more 0=0 1=1 2=1.0",
        "BinaryOp two 1 1 b twice 0=2 1=1 2=2.0",
        "BinaryOp three 1 1 twice six 0=2 1=1 2=3.0",
    )
    path = write(tmp_path / "m.param", *layers)
    values = np.ones((1, 1, 2, 2), np.float32)
    session = ncnn_.open(path, SessionOptions())
    assert [spec.name for spec in session.outputs] == ["more", "six"]
    assert [float(result.max()) for result in session.run([values])] == [2, 6]
    named = ncnn_.open(path, SessionOptions(outputs=("six", "twice")))
    assert [float(result.max()) for result in named.run([values])] == [6, 2]
    with pytest.raises(ModelError, match="has no blob 'boxes'; its outputs are more, six"):
        ncnn_.open(path, SessionOptions(outputs=("boxes",)))


def test_the_shape_that_a_file_states_is_used(tmp_path: Path) -> None:
    path = write(tmp_path / "m.param", PLUS_ONE, inputs="Input in0 0 1 in0 0=7 1=5 2=3")
    session = ncnn_.open(path, SessionOptions())
    assert session.inputs[0].shape == (1, 3, 5, 7)
    with pytest.raises(BackendError, match=r"given float32 \[1, 3, 7, 5\] for in0 float32 \[1, 3, 5, 7\]"):
        session.run([np.zeros((1, 3, 7, 5), np.float32)])
    with pytest.raises(BackendError, match=r"given uint8 .*Correct the input's size, layout \(nchw\) and dtype"):
        session.run([np.zeros((1, 3, 5, 7), np.uint8)])


def test_files_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    path, _, _ = convolution(tmp_path / "m.param")
    text, weights = path.read_text(), path.with_suffix(".bin").read_bytes()

    def refused(message: str) -> None:
        with pytest.raises(ModelError, match=message):
            ncnn_.open(path, SessionOptions())

    path.with_suffix(".bin").write_bytes(weights[:10])
    refused(r"m\.bin: ncnn .* cannot read it: not the weights of m\.param, or cut off\. Convert the model again")
    path.with_suffix(".bin").unlink()
    refused(r"m\.param: its weights m\.bin are not beside it\. Copy both files")
    path.with_suffix(".bin").write_bytes(weights)
    path.write_text(text.replace("Convolution", "Konvolution"))
    refused(r"m\.param: ncnn .* cannot read it")
    path.write_text(text[: text.index("Convolution")])
    refused(r"is cut off: 1 of 2 layers")
    path.write_text("<html>not found</html>")
    refused(r"is no ncnn model: its first line is '<html>not found</html>' instead of 7767517")
    path.write_bytes(b"\xd5\x85\x76\xff")
    refused("is no text")
    path.unlink()
    refused("cannot be read: No such file")


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.param"
    path.write_text(f"7767517\n{text}", encoding="utf-8")
    with pytest.raises(ModelError):
        ncnn_.read_param(path)


def test_its_threads_sleep_between_frames(tmp_path: Path) -> None:
    """GNU's OpenMP reads its environment once: a process of its own tells what ncnn's threads were given."""
    code = (
        "import os; from edge_vision.inference.backends import ncnn_; real = __import__; seen = []\n"
        "def spy(name, *rest, **more):\n"
        "    if name == 'ncnn': seen.append(os.environ.get('OMP_WAIT_POLICY'))\n"
        "    return real(name, *rest, **more)\n"
        "import builtins; builtins.__import__ = spy; ncnn_._import()\n"
        "print(seen[0], os.environ.get('OMP_WAIT_POLICY'))"
    )
    variables = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    variables["PYTHONPATH"] = os.pathsep.join(sys.path)
    for own, told in ((None, "passive None"), ("active", "active active")):
        given_variables = variables | ({"OMP_WAIT_POLICY": own} if own else {})
        done = subprocess.run(
            [sys.executable, "-c", code], env=given_variables, capture_output=True, text=True, timeout=60
        )
        assert done.stdout.strip() == told, done.stderr
