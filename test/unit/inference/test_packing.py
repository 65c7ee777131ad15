"""Packed models: the same to the bit or refused, as small as their entropy, and run like any other."""

from __future__ import annotations

import gc
import hashlib
import pickle
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edge_vision.datatypes import Frame
from edge_vision.inference.bundle import load_bundle
from edge_vision.inference.engine import Engine
from edge_vision.inference.errors import ModelError
from edge_vision.inference.packing import HEADER_BYTES, MAGIC, SIZES, unpack_bytes, unpack_file
from edge_vision.inference.range_coder import SCALE, Damaged, decode, frequencies
from edge_vision.inference.security import open_bundle, package
from edge_vision.optimize.packing import pack, pack_bytes, serialised, unpack, with_short_names
from edge_vision.optimize.packing.coder import codes_of, encode, grouped

DTYPES = ("int8", "uint8", "float16", "float32", "float64", "int32", "int64", "bool")


def model_of(*arrays: np.ndarray) -> onnx.ModelProto:
    """A graph that hands out its weights."""
    names = [f"a_weight_with_a_long_name_{i}" for i in range(len(arrays))]
    tables = [numpy_helper.from_array(array, name) for name, array in zip(names, arrays, strict=True)]
    nodes = [helper.make_node("Identity", [name], [f"out{i}"]) for i, name in enumerate(names)]
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 8, 8])
    outs = [
        helper.make_tensor_value_info(f"out{i}", helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for i, a in enumerate(arrays)
    ]
    return helper.make_model(helper.make_graph(nodes, "g", [image], outs, tables))


def weights(proto: onnx.ModelProto) -> list[np.ndarray]:
    return [numpy_helper.to_array(tensor) for tensor in proto.graph.initializer]


def quantised(rng: np.random.Generator, shape: tuple[int, ...], spread: float = 20.0) -> np.ndarray:
    return np.clip(np.rint(rng.laplace(0, spread, shape)), -127, 127).astype(np.int8)


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    count = draw(st.integers(0, 400))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 16)))
    kind = draw(st.sampled_from(("noise", "few", "sparse", "constant", "steps")))
    if kind == "noise":
        return rng.integers(0, 2 if dtype.kind == "b" else 256, count * dtype.itemsize, np.uint8).view(dtype)
    values = rng.normal(0, 30, max(draw(st.integers(1, 300)), 1))
    found = {
        "few": lambda: values[rng.integers(0, len(values), count)],
        "sparse": lambda: np.where(rng.random(count) < draw(st.floats(0, 1)), 0, rng.normal(0, 30, count)),
        "constant": lambda: np.full(count, values[0]),
        "steps": lambda: np.arange(count),
    }[kind]()
    return (np.abs(found) if dtype.kind == "u" else found).astype(dtype)


@settings(deadline=None, max_examples=40)
@given(st.lists(arrays(), min_size=1, max_size=5))
def test_any_model_is_unpacked_to_the_bit(tensors: list[np.ndarray]) -> None:
    content = serialised(model_of(*tensors))
    assert unpack_bytes(pack_bytes(content).content) == content


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 1500), st.integers(1, 256), st.integers(0, 99)), min_size=1, max_size=6))
def test_the_coder_gives_back_every_symbol(planes: list[tuple[int, int, int]]) -> None:
    rows = [(np.random.default_rng(s).geometric(1 / k, n) - 1).clip(0, 255).astype(np.uint8) for n, k, s in planes]
    histograms = [np.bincount(row, minlength=256) for row in rows if len(row)]
    if not histograms:
        return
    group_of, groups = grouped(histograms, most=3)
    assert len(groups) <= 3
    codes = [codes_of(group) for group in groups]
    rows = [row for row in rows if len(row)]
    ids, counts = np.array(group_of, np.uint8), np.array([len(row) for row in rows])
    states, words = encode(np.concatenate(rows), ids, counts, codes)
    found = decode(ids, counts, [frequencies(code) for code in codes], states.astype(np.int64), words)
    np.testing.assert_array_equal(found, np.concatenate(rows))


@given(st.lists(st.integers(0, 255), min_size=1, max_size=256).filter(any))
def test_a_table_adds_up_and_misses_no_symbol(codes: list[int]) -> None:
    table = frequencies(np.array(codes, np.uint8))
    assert table.shape == (256,)
    assert table.sum() == SCALE
    np.testing.assert_array_equal(table[: len(codes)] > 0, np.array(codes) > 0)


def test_packing_takes_little_more_than_the_entropy() -> None:
    rng = np.random.default_rng(0)
    tensor = quantised(rng, (256, 64, 3, 3))
    counts = np.bincount(tensor.reshape(-1).view(np.uint8), minlength=256)
    shares = counts[counts > 0] / counts.sum()
    bound = tensor.size * -(shares * np.log2(shares)).sum() / 8
    assert len(pack(model_of(tensor))) < 1.01 * bound + 600


def test_a_pattern_of_zeros_costs_what_it_tells() -> None:
    rng = np.random.default_rng(1)
    values = np.where(rng.random(80000) < 0.5, -7, 7).astype(np.int8).reshape(-1, 4)
    order = rng.random(values.shape).argsort(axis=1)
    pattern = np.where(order < 2, 0, values)  # two of four
    free = np.where(rng.permutation(values.size).reshape(values.shape) % 2 == 0, 0, values)
    bits = [8 * len(pack(model_of(tensor))) / tensor.size for tensor in (pattern, free)]
    assert bits[0] < np.log2(6) / 4 + 0.5 + 0.06  # of the mask, of the sign, of the rest of the file
    assert bits[1] < 1 + 0.5 + 0.06
    assert bits[0] < bits[1] - 0.3


def test_few_values_cost_their_indices() -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(0, 0.1, 16).astype(np.float32)
    packed = len(pack(model_of(values[rng.integers(0, 16, 40000)])))
    assert packed < 40000 * 4 / 8 * 1.01 + 600


def test_clusters_of_different_integers_share_a_table() -> None:
    """A clustered tensor's integers are its own; how often the smallest is there, and the next, is not."""
    rng = np.random.default_rng(6)
    sizes = rng.multinomial(2000, rng.dirichlet(np.full(16, 2.0)))
    tensors = [
        rng.permutation(np.repeat(np.sort(rng.choice(np.arange(-127, 128), 16, replace=False)), sizes)).astype(np.int8)
        for _ in range(24)
    ]
    packed = pack_bytes(serialised(with_short_names(model_of(*tensors))))
    shares = sizes[sizes > 0] / 2000
    bound = 24 * 2000 * -(shares * np.log2(shares)).sum() / 8
    assert packed.coded < 1.01 * bound + 200
    assert packed.plain == 24 * np.count_nonzero(sizes)
    assert packed.head < 250


def test_short_names_compute_the_same() -> None:
    import onnxruntime

    rng = np.random.default_rng(3)
    tables = [
        numpy_helper.from_array(rng.normal(size=(4, 3, 3, 3)).astype(np.float32), "backbone.stem.conv.weight"),
        numpy_helper.from_array(rng.normal(size=4).astype(np.float32), "backbone.stem.conv.bias"),
    ]
    nodes = [
        helper.make_node("Conv", ["images", tables[0].name, tables[1].name], ["stem"], name="stem"),
        helper.make_node("Clip", ["stem", ""], ["a"], name="relu"),
    ]
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 8, 8])
    out = helper.make_tensor_value_info("a", TensorProto.FLOAT, [1, 4, 6, 6])
    graph = helper.make_graph(nodes, "g", [image], [out], tables)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(proto, {"labels": "x"})
    short = with_short_names(proto)
    assert "backbone" not in str(short)
    assert (short.graph.input, short.graph.output, short.metadata_props) == (
        proto.graph.input,
        proto.graph.output,
        proto.metadata_props,
    )
    images = rng.normal(size=(1, 3, 8, 8)).astype(np.float32)
    found = [
        onnxruntime.InferenceSession(p.SerializeToString(), providers=["CPUExecutionProvider"]).run(
            None, {"images": images}
        )[0]
        for p in (proto, unpack(pack(proto)))
    ]
    np.testing.assert_array_equal(*found)


def test_weights_in_other_files_are_refused() -> None:
    proto = model_of(np.zeros(3, np.float32))
    proto.graph.initializer[0].data_location = TensorProto.EXTERNAL
    with pytest.raises(ValueError, match="another file"):
        pack(proto)
    with pytest.raises(ValueError, match="no ONNX model"):
        pack_bytes(b"this is a page, and no model")


@pytest.fixture(scope="module")
def small() -> bytes:
    rng = np.random.default_rng(4)
    sparse = quantised(rng, (40, 8))
    sparse[rng.random(sparse.shape) < 0.5] = 0
    few = np.float32([0.5, -1, 3])[rng.integers(0, 3, 500)]
    return pack(model_of(sparse, few, rng.normal(size=200).astype(np.float32)))


def test_what_was_cut_off_is_refused(small: bytes) -> None:
    for length in range(len(small)):
        with pytest.raises(Damaged):
            unpack_bytes(small[:length])


def test_every_flipped_bit_is_refused(small: bytes) -> None:
    for bit in range(8 * len(small)):
        changed = bytearray(small)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Damaged):
            unpack_bytes(bytes(changed))


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_what_was_changed_with_care_is_refused(small: bytes, data: st.DataObject) -> None:
    """Whoever puts the sum right too gets an error of ours, or a file that is the original's."""
    body = bytearray(small[len(MAGIC) + 32 :])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(32, len(body) - 1))
        body[place] = data.draw(st.integers(0, 255))
    body = body[: data.draw(st.one_of(st.just(len(body)), st.integers(0, len(body))))]
    changed = MAGIC + hashlib.sha256(body).digest() + bytes(body)
    try:
        found = unpack_bytes(changed)
    except Damaged:
        return
    assert found == unpack_bytes(small)


def test_a_file_that_claims_too_much_is_refused(small: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Damaged, match="more than is allowed"):
        unpack_bytes(small, most=100)
    sizes = list(SIZES.unpack(small[HEADER_BYTES - SIZES.size : HEADER_BYTES]))
    sizes[0] = 2**31 - 1
    body = small[len(MAGIC) + 32 : HEADER_BYTES - SIZES.size] + SIZES.pack(*sizes) + small[HEADER_BYTES:]
    with pytest.raises(Damaged, match="more than is allowed"):
        unpack_bytes(MAGIC + hashlib.sha256(body).digest() + body)
    monkeypatch.setattr("edge_vision.optimize.packing.writer.MOST_TIMES_SMALLER", 1)
    with pytest.raises(ValueError, match="almost nothing"):
        pack(model_of(np.zeros(1 << 19, np.float32)))


def test_other_versions_and_files_are_told(small: bytes, tmp_path: Path) -> None:
    with pytest.raises(Damaged, match="of format 2"):
        unpack_bytes(MAGIC[:-1] + b"\x02" + small[len(MAGIC) :])
    path = tmp_path / "model.onnx.evp"
    path.write_bytes(b"<html>")
    with pytest.raises(ModelError, match=r"model\.onnx\.evp: cannot be unpacked: it does not begin.*Copy"):
        unpack_file(path)
    with pytest.raises(ModelError, match="cannot be read"):
        unpack_file(tmp_path / "none.onnx.evp")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The bundled detector's folder with its ONNX file alone, and the same packed."""
    source = Path(__file__).parents[3] / "models" / "conveyor_parts"
    content = (source / "model.onnx").read_bytes()
    made = []
    for name, data in (("model.onnx", content), ("model.onnx.evp", pack_bytes(content).content)):
        folder = tmp_path_factory.mktemp("bundle")
        (folder / name).write_bytes(data)
        card = yaml.safe_load((source / "model.yaml").read_text(encoding="utf-8"))
        card["variants"] = [{**card["variants"][0], "file": name, "sha256": hashlib.sha256(data).hexdigest()}]
        (folder / "model.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")
        made.append(folder)
    return made[0], made[1]


def raw(bundle: object, frame: Frame) -> np.ndarray:
    with Engine.load(bundle, backend="onnxruntime") as engine:  # type: ignore[arg-type]
        return engine.run(engine.preprocess(frame))[0].copy()


def test_a_packed_bundle_runs_as_the_plain_one(bundles: tuple[Path, Path]) -> None:
    plain, packed = (load_bundle(folder) for folder in bundles)
    frame = Frame(np.random.default_rng(5).integers(0, 256, (480, 640, 3), np.uint8))
    expected = raw(plain, frame)
    np.testing.assert_array_equal(raw(packed, frame), expected)
    variant = packed.variants[0]
    assert variant.digest == plain.variants[0].digest  # caches and proofs are of the model, not of how it lies there
    assert variant.file == bundles[1] / "model.onnx.evp"
    with open_bundle(bundles[1]) as bundle:
        file = bundle.variants[0].path
        np.testing.assert_array_equal(raw(bundle, frame), expected)
        assert file.is_file()
    assert not file.exists()  # with the block
    bare = load_bundle(bundles[1] / "model.onnx.evp", labels=packed.labels, decoder_options={"strides": [8, 16]})
    np.testing.assert_array_equal(raw(bare, frame), expected)


def test_the_memory_goes_with_the_bundle(bundles: tuple[Path, Path]) -> None:
    bundle = load_bundle(bundles[1])
    path = bundle.variants[0].path
    again = pickle.loads(pickle.dumps(bundle))  # as it goes to the processes that try candidates
    assert again.variants[0].path == path
    del again
    gc.collect()
    assert path.is_file()
    del bundle
    gc.collect()
    assert not path.exists()


def test_a_packed_bundle_can_be_sealed(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    sealed, _ = package(bundles[1], tmp_path / "sealed")
    with open_bundle(sealed) as bundle:
        assert bundle.variants[0].path.read_bytes() == (bundles[0] / "model.onnx").read_bytes()


def test_a_damaged_packed_bundle_is_refused(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    content = bytearray((bundles[1] / "model.onnx.evp").read_bytes())
    content[len(content) // 2] ^= 1
    card = yaml.safe_load((bundles[1] / "model.yaml").read_text(encoding="utf-8"))
    (tmp_path / "model.onnx.evp").write_bytes(content)
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")
    with pytest.raises(ModelError, match="was changed or not fully copied"):
        load_bundle(tmp_path)
    card["variants"][0]["sha256"] = hashlib.sha256(content).hexdigest()
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")
    with pytest.raises(ModelError, match=r"model\.onnx\.evp: cannot be unpacked: it was changed"):
        load_bundle(tmp_path)
