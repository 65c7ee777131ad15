"""Thinner layers amount to what they stand for, cost less, and keep what the budget leaves."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("tensorly", reason="tensorly is not installed")

import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_vision.inference.bundle import load_bundle
from edge_vision.optimize.data import Data, Split
from edge_vision.optimize.graphs.running import run, session_of, tensors
from edge_vision.optimize.graphs.shapes import multiply_accumulates
from edge_vision.optimize.network import Network
from edge_vision.optimize.passes import Context, PassError
from edge_vision.optimize.passes.low_rank import Options, apply
from edge_vision.optimize.weights.factors import KINDS, Factoring, assembled
from edge_vision.optimize.weights.ranks import Form, Geometry, by_budget, by_energy, cost, forms_of
from edge_vision.optimize.weights.replacing import replace

RNG = np.random.default_rng(0)
CARD = """format: 1
name: toy
task: classify
decoder: classification
labels: [a, b, c]
input: {width: 17, height: 15, layout: nchw, dtype: float32, colour: bgr, scale: 0.00392156862745098, resize: stretch}
variants: [{backend: onnxruntime, precision: fp32, file: model.onnx}]
"""


def low(shape: tuple[int, ...], rank: int, noise: float = 0.02) -> np.ndarray:
    """A weight that is nearly of low rank in its outputs and inputs."""
    o, i = shape[:2]
    rest = shape[2:]
    core = RNG.normal(size=(rank, rank, *rest))
    weight = np.einsum("or,rs...,si->oi...", RNG.normal(size=(o, rank)), core, RNG.normal(size=(rank, i)))
    weight = weight / weight.std() + noise * RNG.normal(size=shape)
    return (weight * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)


def classifier() -> onnx.ModelProto:
    """Odd sizes, strides, pads and dilations that differ by axis; a Gemm, and a MatMul with its bias beside."""
    arrays = {
        "first": low((16, 3, 3, 3), 3, 1.0),
        "square": low((48, 16, 3, 3), 6),
        "tall": low((32, 48, 3, 5), 5),
        "point": low((64, 32, 1, 1), 6),
        "gemm": low((64, 64), 5),
        "matmul": low((64, 48), 4),
        "head": low((3, 48), 3),
        "bias": RNG.normal(size=48).astype(np.float32),
        "gemm_bias": RNG.normal(size=64).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["images", "first"], ["c0"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"]),
        helper.make_node("Conv", ["r0", "square", "bias"], ["c1"], pads=[0, 1, 2, 1], strides=[2, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "tall"], ["c2"], pads=[1, 4, 1, 3], dilations=[1, 2], strides=[1, 2]),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("Conv", ["r2", "point"], ["c3"]),
        helper.make_node("Relu", ["c3"], ["r3"]),
        helper.make_node("GlobalAveragePool", ["r3"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "gemm", "gemm_bias"], ["g"], transB=1, alpha=0.5, beta=2.0),
        helper.make_node("Relu", ["g"], ["rg"]),
        helper.make_node("MatMul", ["rg", "matmul"], ["m"]),
        helper.make_node("Relu", ["m"], ["rm"]),
        helper.make_node("Gemm", ["rm", "head"], ["logits"], transB=1),
    ]
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 15, 17])
    out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3])
    initialisers = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "toy", [image], [out], initialisers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def network(tmp_path: Path) -> Network:
    proto = classifier()
    onnx.save(proto, tmp_path / "model.onnx")
    (tmp_path / "model.yaml").write_text(CARD, encoding="utf-8")
    return Network(proto, load_bundle(tmp_path))


def data() -> Data:
    rng = np.random.default_rng(1)
    split = Split(rng.integers(0, 256, (12, 15, 17, 3), np.uint8), rng.integers(0, 3, 12), np.arange(12) // 4)
    return Data("toy", ("a", "b", "c"), split, split, split, lambda width, height: data())


def outputs(proto: onnx.ModelProto, network: Network) -> np.ndarray:
    return run(session_of(proto, 1), tensors(data().calibration.images, network.input))[0]


def context(tmp_path: Path, with_data: bool = True) -> Context:
    return Context(tmp_path, data() if with_data else None, threads=1)


@pytest.mark.parametrize(
    ("name", "kind"),
    [*itertools.product(["square", "tall"], KINDS), *zip(["point", "gemm", "matmul"], ["svd"] * 3, strict=True)],
)
def test_thinner_layers_compute_what_they_amount_to(network: Network, name: str, kind: str) -> None:
    weight = next(numpy_helper.to_array(t) for t in network.proto.graph.initializer if t.name == name)
    shaped = weight if weight.ndim == 4 else (weight.T if name == "matmul" else weight)[..., None, None]
    rank = 8 if kind != "tucker" else 7
    factors = Factoring(shaped).factors(kind, (rank,) if kind != "tucker" else (rank, 6))
    whole = assembled(factors)
    expected = network.copied_graph()
    stored = whole if weight.ndim == 4 else whole[..., 0, 0].T if name == "matmul" else whole[..., 0, 0]
    for tensor in expected.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(stored.astype(np.float32), name))
    found = network.copied_graph()
    replace(found, name, factors)
    assert name not in {tensor.name for tensor in found.graph.initializer}
    np.testing.assert_allclose(outputs(found, network), outputs(expected, network), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_form_costs_is_what_the_graph_says(network: Network, kind: str) -> None:
    found = network.copied_graph()
    weight = next(numpy_helper.to_array(t) for t in found.graph.initializer if t.name == "tall")
    ranks = (8, 16) if kind == "tucker" else (8,)
    before = multiply_accumulates(found)
    replace(found, "tall", Factoring(weight).factors(kind, ranks))
    after = multiply_accumulates(found)
    geometry = Geometry((8, 17), (8, 8))
    parts = [name for name in after if name.startswith("tall.")]
    assert cost("", (), weight.shape, geometry)[0] == before["tall"]
    assert cost(kind, ranks, weight.shape, geometry)[0] == sum(after[name] for name in parts)
    sizes = {t.name: int(np.prod(t.dims)) for t in found.graph.initializer}
    assert cost(kind, ranks, weight.shape, geometry)[1] == sum(sizes[name] for name in parts)


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 12), st.integers(2, 12), st.sampled_from([(1, 1), (3, 3), (1, 3), (5, 2)]), st.integers(0, 99))
def test_whole_ranks_lose_nothing_and_more_rank_is_never_worse(o: int, i: int, kernel: tuple, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(3 * i * kernel[0] * kernel[1], i * kernel[0] * kernel[1]))
    factoring = Factoring(rng.normal(size=(o, i, *kernel)), rows.T @ rows)
    for kind in ("svd", "spatial", "tucker"):
        most = factoring.most(kind)
        assert factoring.error(assembled(factoring.factors(kind, most))) < 1e-6
        if kind == "svd":
            ranks = [(r,) for r in range(1, most[0] + 1)]
            errors = factoring.errors(kind, ranks)
            assert all(a >= b - 1e-9 for a, b in itertools.pairwise(errors))
            whole = [factoring.error(assembled(factoring.factors(kind, r))) for r in ranks]
            np.testing.assert_allclose(whole, errors, atol=1e-5)


def test_what_the_inputs_carry_decides() -> None:
    rng = np.random.default_rng(5)
    weight = rng.normal(size=(24, 20, 1, 1))
    rows = rng.normal(size=(400, 20)) * np.geomspace(1, 0.01, 20) @ np.linalg.qr(rng.normal(size=(20, 20)))[0]
    moment = rows.T @ rows / len(rows)
    judge = Factoring(weight, moment)
    blind = judge.error(assembled(Factoring(weight).factors("svd", (8,))))
    assert judge.error(assembled(judge.factors("svd", (8,)))) < 0.5 * blind


def test_the_budget_is_kept_and_spent_where_it_hurts_least(network: Network, tmp_path: Path) -> None:
    outcome = apply(network, Options(budget=0.5, measured=False), context(tmp_path))
    before, after = outcome.facts["macs"]
    assert after <= 0.5 * before
    assert after == sum(multiply_accumulates(outcome.network.proto).values())
    assert outcome.facts["parameters"][1] < outcome.facts["parameters"][0]
    for facts in outcome.facts["layers"].values():
        assert facts["macs"][1] < facts["macs"][0]
        assert all(rank % 8 == 0 for rank in facts["ranks"])
    apart = outputs(outcome.network.proto, network) - outputs(network.proto, network)
    assert np.square(apart).mean() < 0.1 * np.square(outputs(network.proto, network)).mean()
    names = {line.split(":")[0] for line in outcome.refused}
    assert {"first", "head"} <= names
    assert not names & set(outcome.facts["layers"])


def test_a_budget_that_cannot_be_kept_is_told(network: Network, tmp_path: Path) -> None:
    outcome = apply(network, Options(budget=0.01, measured=False), context(tmp_path, False))
    assert any("budget: macs are" in line and "0.01 was asked for" in line for line in outcome.refused)
    outcome = apply(network, Options(by="parameters", budget=0.6, measured=False), context(tmp_path, False))
    assert outcome.facts["parameters"][1] <= 0.6 * outcome.facts["parameters"][0]


def test_every_layer_keeps_the_energy_asked_for(network: Network, tmp_path: Path) -> None:
    outcome = apply(network, Options(by="energy", energy=0.98, measured=False), context(tmp_path))
    assert outcome.facts["layers"]
    assert all(facts["error"] <= 0.02 + 1e-6 for facts in outcome.facts["layers"].values())


def test_ranks_can_be_given(network: Network, tmp_path: Path) -> None:
    options = Options(ranks={"square": 12, "tal.": (9, 10)}, budget=0.99, measured=False)
    facts = apply(network, options, context(tmp_path, False)).facts["layers"]
    assert facts["square"]["ranks"] in ([12], [12, 12])
    assert (facts["tall"]["kind"], facts["tall"]["ranks"]) == ("tucker", [9, 10])


def test_only_what_is_faster_here_is_replaced(network: Network, tmp_path: Path) -> None:
    outcome = apply(network, Options(budget=0.5, faster=1e-6), context(tmp_path, False))
    assert all(len(facts["ms"]) == 2 for facts in outcome.facts["layers"].values())
    outcome = apply(network, Options(budget=0.5, faster=1e6), context(tmp_path, False))
    assert outcome.facts["layers"] == {}
    assert sum("no faster as" in line for line in outcome.refused) >= 4
    assert outcome.facts["macs"][0] == outcome.facts["macs"][1]


def test_forms_and_their_choice() -> None:
    factoring = Factoring(low((32, 32, 3, 3), 4))
    forms = forms_of(factoring, Geometry((10, 10), (10, 10)), ("svd", "spatial", "tucker"), 8)
    assert forms[0].kind == ""
    assert all(a.macs > b.macs and a.error <= b.error for a, b in itertools.pairwise(forms))
    assert by_energy(forms, 0.9).error <= 0.1
    plain = {
        "a": [Form("", (), 100, 10, 0.0), Form("svd", (8,), 50, 5, 0.1), Form("svd", (4,), 25, 3, 0.5)],
        "b": [Form("", (), 100, 10, 0.0), Form("svd", (8,), 60, 6, 0.3)],
    }
    assert {n: f.macs for n, f in by_budget(plain, 40, "macs").items()} == {"a": 50, "b": 100}
    assert {n: f.macs for n, f in by_budget(plain, 60, "macs").items()} == {"a": 50, "b": 60}
    assert {n: f.macs for n, f in by_budget(plain, 1000, "macs").items()} == {"a": 25, "b": 60}
    assert {n: f.kind for n, f in by_budget(plain, 0, "macs").items()} == {"a": "", "b": ""}


def test_what_cannot_be_done_is_told(network: Network, tmp_path: Path) -> None:
    with pytest.raises(PassError, match="needs calibration images"):
        apply(network, Options(importance="inputs"), context(tmp_path, False))
    with pytest.raises(PassError, match="no layer has a thinner form"):
        apply(network, Options(least_size=10**6), context(tmp_path, False))
    with pytest.raises(ValueError, match="budget is 1"):
        Options(budget=1.0)
    with pytest.raises(ValueError, match="kinds"):
        Options(kinds=())


def test_the_thinner_network_can_be_trained(network: Network, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch trains: pip install torch")
    options = Options(
        budget=0.3,
        measured=False,
        epochs=8,
        batch=4,
        alpha=1.0,
        rate=3e-4,
        validation=0.0,
        device="cpu",
        shift=0.0,
        brightness=0.0,
        colour=0.0,
    )
    used = Context(tmp_path, data(), network, threads=1)
    outcome = apply(network, options, used)
    loss = outcome.facts["training"]["train_loss"]
    assert loss[1] < loss[0]
    assert outcome.facts["macs"][1] == sum(multiply_accumulates(outcome.network.proto).values())


def test_the_bias_takes_up_what_the_mean_makes(network: Network, tmp_path: Path) -> None:
    """On average over the images that the ranks were chosen on, outputs of a replaced layer are what they were."""
    options = Options(budget=0.9, only=("square",), measured=False, ranks={"square": 8}, kinds=("svd",), images=12)
    found = apply(network, options, context(tmp_path)).network.proto
    before, after = (inner(proto, "c1", network) for proto in (network.proto, found))
    apart = np.abs(before - after).mean()
    assert apart > 1e-3
    assert np.abs((before - after).mean(axis=(0, 2, 3))).max() < 0.1 * apart


def inner(proto: onnx.ModelProto, name: str, network: Network) -> np.ndarray:
    shown = onnx.ModelProto()
    shown.CopyFrom(proto)
    shown.graph.output.append(helper.make_empty_tensor_value_info(name))
    return run(session_of(shown, 1), tensors(data().calibration.images, network.input), [name])[0]
