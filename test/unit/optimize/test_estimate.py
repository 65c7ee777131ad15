"""Estimates for boards: published networks have their published sizes, constants are those that their points give, and
the errors that are claimed are those that points left out show."""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="estimates read ONNX graphs")
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from edge_vision.inference.errors import ModelError  # noqa: E402
from edge_vision.optimize.estimate import (  # noqa: E402
    check_target,
    coverage,
    estimate,
    find_target,
    model_of,
    read_model,
    read_target,
    target_names,
)
from edge_vision.optimize.estimate.architectures import ARCHITECTURES, architecture  # noqa: E402
from edge_vision.optimize.estimate.fitting import Prior, error_of, fit, left_out  # noqa: E402
from edge_vision.optimize.estimate.microcontroller import operator_table, unsupported  # noqa: E402
from edge_vision.optimize.estimate.operations import (  # noqa: E402
    Operation,
    convolution_kind,
    total_macs,
    total_weights,
)
from edge_vision.optimize.estimate.probes import CHAINS, NETWORKS, mobilenet_v2_graph  # noqa: E402
from edge_vision.optimize.estimate.report import digits, errors_text, summary_text, text  # noqa: E402
from edge_vision.optimize.estimate.roofline import Constants, Error, parts, seconds, slowest, work  # noqa: E402

PUBLISHED = {
    # name: million multiply-accumulates, million weights; papers' and repositories' tables
    "alexnet": (724, 60.9),
    "vgg16": (15470, 138.3),
    "resnet18": (1814, 11.7),
    "resnet50": (4089, 25.5),
    "resnet50_caffe": (3858, 25.5),
    "resnet8": (12.5, 0.077),
    "densenet121": (2834, 7.9),
    "squeezenet1_1_caffe": (418.5, 1.23),
    "squeezenet1_1@224": (349, 1.23),
    "googlenet": (1583, 7.0),
    "mobilenet_v1": (569, 4.2),
    "mobilenet_v2": (301, 3.5),
    "mobilenet_v2_caffe": (313.6, 3.5),
    "mobilenet_v2_0.35": (59, 1.66),
    "mobilenet_v3": (217, 5.4),
    "mnasnet": (314, 4.35),
    "efficientnet_b0": (386, 5.25),
    "mobilenet_ssd": (1148, 5.77),
    "yolov4_tiny": (3454, 6.05),
    "yolov8n": (4371, 3.15),
    "yolov8s": (14300, 11.15),
    "ds_cnn": (2.66, 0.022),
    "autoencoder": (0.264, 0.264),
    "mobilenet_v1_0.25_person": (7.49, 0.208),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_network_has_its_published_size(name):
    macs, weights = PUBLISHED[name]
    assert total_macs(architecture(name)) / 1e6 == pytest.approx(macs, rel=0.01)
    assert total_weights(architecture(name)) / 1e6 == pytest.approx(weights, rel=0.02)


def test_every_architecture_can_be_drawn_at_its_own_size():
    for name in ARCHITECTURES:
        assert total_macs(architecture(name)) > 0, name


def test_another_input_size_changes_the_work_and_not_the_weights():
    small, large = architecture("mobilenet_v2@96"), architecture("mobilenet_v2")
    assert total_weights(small) == total_weights(large)
    assert total_macs(small) / total_macs(large) == pytest.approx((96 / 224) ** 2, rel=0.05)


@pytest.mark.parametrize(
    ("kernel", "stride", "group", "channels", "kind"),
    [
        ((3, 3), 1, 1, 32, "winograd"),
        ((3, 3), 1, 1, 3, "dense"),  # too few channels
        ((3, 3), 2, 1, 32, "dense"),
        ((5, 5), 1, 1, 32, "dense"),
        ((1, 1), 1, 1, 32, "pointwise"),
        ((3, 3), 1, 32, 32, "depthwise"),
        ((3, 3), 1, 2, 64, "dense"),
    ],
)
def test_kinds_of_convolutions(kernel, stride, group, channels, kind):
    assert convolution_kind(kernel, stride, group, channels) == kind


def test_a_graph_gives_the_table_of_its_architecture():
    """MobileNetV2 written as ONNX and as the paper's table: the same work."""
    model = model_of(mobilenet_v2_graph(False, 1.0, 128), "v2")
    drawn = work(architecture("mobilenet_v2@128"), "fp32")
    found = work(model.operations, "fp32")
    np.testing.assert_allclose(found[:4], drawn[:4], rtol=0.002)
    assert found[4] == pytest.approx(drawn[4], rel=0.01)
    assert found[5] == drawn[5]


def test_a_quantised_graph_has_the_same_work_in_int8():
    floats, whole = (model_of(mobilenet_v2_graph(int8, 0.35, 96), "v2") for int8 in (False, True))
    assert (floats.precision, whole.precision) == ("fp32", "int8")
    assert total_macs(floats.operations) == total_macs(whole.operations)
    assert whole.peak < 0.5 * floats.peak
    assert whole.peak_in("int8") == whole.peak
    assert floats.peak_in("int8") == floats.peak // 4


constants = st.builds(
    Constants,
    *[st.floats(1e6, 1e13)] * 5,
    st.floats(0, 1e-3),
    st.floats(0, 1e-2),
)


@given(constants)
def test_time_is_the_sum_of_its_parts_and_shrinks_with_the_clock(machine):
    done = work(architecture("resnet8"), "int8")
    total = seconds(done, machine)
    assert parts(done, machine).sum() == pytest.approx(total)
    assert seconds(done, machine.faster(2)) == pytest.approx(total / 2)
    operations = architecture("resnet8")
    each = sum(time for _, time in slowest(operations, "int8", machine, 100))
    assert each + machine.start == pytest.approx(total)


def test_more_work_takes_longer():
    machine = find_target("raspberry_pi_5").settings[0].constants
    times = [seconds(work(architecture(f"mobilenet_v2@{size}"), "fp16"), machine) for size in (96, 128, 160, 224)]
    assert times == sorted(times)


@pytest.mark.parametrize("bad", [{"dense": 0.0}, {"bandwidth": math.nan}, {"call": -1.0}])
def test_constants_that_cannot_be_are_refused(bad):
    good = dict.fromkeys([field.name for field in fields(Constants)], 1e6)
    with pytest.raises(ValueError, match=next(iter(bad))):
        Constants(**good | bad)


def test_fitting_finds_the_constants_that_made_the_points():
    truth = Constants(8e10, 2e10, 4e10, 1e10, 9e9, 2e-5)
    names = ["vgg16", "resnet18", "resnet50", "mobilenet_v1", "mobilenet_v2", "alexnet", "googlenet", "mnasnet"]
    points = [(work(architecture(name), "fp32"), 0.0) for name in names]
    points = [(done, seconds(done, truth)) for done, _ in points]
    prior = Prior((2.0, 1.0, 1.0, 1 / 3), 8e9, 2e-5)
    found = fit(points, prior)
    for done, time in points:
        assert seconds(done, found) == pytest.approx(time, rel=0.06)
    assert error_of(left_out(points, prior)).rms < 0.1


@given(st.floats(0.01, 1e4), st.floats(0, 1), st.integers(1, 40))
def test_an_interval_holds_its_estimate_and_widens_with_the_error(ms, rms, points):
    low, high = Error(rms, points).interval(ms)
    wider = Error(rms + 0.2, points).interval(ms)
    assert wider[0] < low < ms < high < wider[1]
    fewer = Error(rms, max(1, points - 1)).interval(ms)
    assert fewer[1] >= high


@pytest.fixture(scope="module")
def targets():
    """All of them; points left out are estimated once."""
    return {name: find_target(name) for name in target_names()}


@pytest.mark.parametrize("name", target_names())
def test_a_target_states_where_its_numbers_are_from_and_what_it_was_fitted_to(targets, name):
    target = targets[name]
    assert target.settings
    for setting in target.settings:
        assert setting.source
        if setting.like:
            continue
        fitted = setting.fit()
        for field in fields(Constants):
            stored = getattr(setting.constants, field.name)
            assert getattr(fitted, field.name) == pytest.approx(stored, rel=0.02), (setting.name, field.name)
        error = error_of(setting.left_out())
        assert error.rms == pytest.approx(setting.error.rms, abs=0.005), setting.name
        assert error.points == setting.error.points


def test_four_of_five_points_lie_within_their_interval(targets):
    rows = tuple(row for target in targets.values() for row in check_target(target))
    inside, total = coverage(rows)
    assert total > 150
    assert 0.75 <= inside / total <= 0.95


def test_memory_of_published_networks():
    """Of a microcontroller's activations, where what is published is known to be the largest input and output."""
    ram = find_target("cortex_m7").ram
    logs = [
        math.log(max(op.inputs + op.outputs for op in architecture(name)) / published)
        for name, published in ram.points.items()
    ]
    assert len(logs) > 10
    assert math.sqrt(np.mean(np.square(logs))) == pytest.approx(ram.error, abs=0.002)


@pytest.fixture(scope="module")
def detector(repository):
    return read_model(repository / "models" / "conveyor_parts")


def test_the_bundled_detector_on_every_target(detector):
    model = detector
    assert model.packed
    assert model.packed < model.file
    found = [estimate(model, find_target(name)) for name in target_names()]
    by_name = {one.target: one for one in found}
    pi4, pi5 = (by_name[name].latencies[0].ms for name in ("raspberry_pi_4", "raspberry_pi_5"))
    assert pi5 < pi4 < by_name["cortex_m7"].latencies[0].ms < by_name["esp32_s3"].latencies[0].ms
    assert by_name["raspberry_pi_4"].ram.fits
    assert not by_name["esp32_s3"].ram.fits
    assert by_name["cortex_m7"].assumed_int8
    assert len(by_name["cortex_m7"].floats) == sum(op.macs > 0 for op in model.operations)
    page = text(found)
    assert "does not fit" in page
    assert "Resize, slow" in page


def test_threads_between_the_measured_ones_lie_between(detector):
    model = detector
    target = find_target("pi5")
    times = [estimate(model, target, threads=threads).latencies[-1].ms for threads in (1, 2, 3, 4)]
    assert times == sorted(times, reverse=True)
    assert "Amdahl" in " ".join(estimate(model, target, threads=2).notes)
    with pytest.raises(ModelError, match="1 to 4"):
        estimate(model, target, threads=5)


def test_precisions_that_a_target_or_file_does_not_have():
    whole = model_of(mobilenet_v2_graph(True, 0.35, 96), "v2")
    with pytest.raises(ModelError, match="int8"):
        estimate(whole, find_target("raspberry_pi_4"), "fp32")
    floats = model_of(mobilenet_v2_graph(False, 0.35, 96), "v2")
    with pytest.raises(ModelError, match="--precision int8"):
        estimate(floats, find_target("cortex_m7"), "fp32")


def small_graph(*nodes, shape=(1, 8, 16, 16), domain=""):
    weights = numpy_helper.from_array(np.ones((8, 8, 1, 1), np.float32), "w")
    grouped = numpy_helper.from_array(np.ones((8, 4, 1, 1), np.float32), "wg")
    size = numpy_helper.from_array(np.array([1, 8, 4, 4], np.float32), "scales")
    body = [helper.make_node("Conv", ["x", "w"], ["c"], name="conv"), *nodes]
    graph = helper.make_graph(
        body,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(body[-1].output[0], TensorProto.FLOAT, None)],
        [weights, grouped, size],
    )
    opsets = [helper.make_opsetid("", 17)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


@pytest.mark.parametrize(
    ("node", "state", "word"),
    [
        (helper.make_node("GlobalAveragePool", ["c"], ["y"], name="n"), "slow", "AveragePool"),
        (helper.make_node("HardSwish", ["c"], ["y"], name="n"), "slow", "ReLU6"),
        (helper.make_node("Softplus", ["c"], ["y"], name="n"), "missing", "ReLU6"),
        (helper.make_node("Erf", ["c"], ["y"], name="n"), "missing", "ReLU6"),
        (helper.make_node("Conv", ["c", "wg"], ["y"], name="n", group=2), "slow", "depthwise"),
    ],
)
def test_operators_of_a_microcontroller(node, state, word):
    (finding,) = unsupported(small_graph(node), "cmsis_nn")
    assert (finding.node, finding.operator, finding.state) == ("n", node.op_type, state)
    assert word in finding.remedy


def test_supported_operators_are_not_complained_of():
    nodes = [
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    assert unsupported(small_graph(*nodes), "cmsis_nn") == ()
    assert unsupported(small_graph(*nodes), "esp_nn") == ()


def test_the_operator_table_is_whole():
    table = operator_table()
    for library, names in table.fast.items():
        assert names <= table.there, library


def test_an_open_size_is_told_with_the_remedy():
    with pytest.raises(ModelError, match=r"leaves the size.*[Ff]ix its sizes"):
        model_of(small_graph(shape=(1, 8, "height", "width")), "open.onnx")


def test_an_open_batch_is_one():
    assert model_of(small_graph(shape=("batch", 8, 16, 16)), "open").operations[0].macs == 64 * 256


def test_a_model_without_work_is_refused():
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "none",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(ModelError, match="no convolution"):
        model_of(model, "none")


@pytest.mark.parametrize(("name", "content"), [("none.onnx", None), ("text.onnx", b"<html>"), ("model.tflite", b"x")])
def test_a_file_that_is_no_model(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=name):
        read_model(tmp_path / name)


def test_an_unknown_target_is_told_with_those_that_are():
    with pytest.raises(ModelError, match="raspberry_pi_4"):
        find_target("raspberry_pi_9")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("kind: linux", "kind: toaster"), "kind"),
        (("network: alexnet", "network: alexnett"), "not described"),
        (("threads: 4", "thread: 4"), "thread"),
        (("clock_mhz: 1800", ""), "clock_mhz"),
        (("dense: ", "dence: "), "constants"),
    ],
)
def test_a_target_file_that_is_wrong_names_the_key(tmp_path, repository, change, message):
    content = (repository / "config" / "targets" / "raspberry_pi_4.yaml").read_text(encoding="utf-8")
    assert change[0] in content
    file = tmp_path / "board.yaml"
    file.write_text(content.replace(*change), encoding="utf-8")
    with pytest.raises(ModelError, match=message):
        read_target(file)


def test_refitting_a_target_writes_what_it_had(tmp_path, repository):
    from edge_vision.optimize.estimate.refit import refit

    source = (repository / "config" / "targets" / "esp32_s3.yaml").read_text(encoding="utf-8")
    file = tmp_path / "esp32_s3.yaml"
    file.write_text(source, encoding="utf-8")
    refit(file)
    before, after = (read_target(path).settings[0] for path in (find_target("esp32_s3").file, file))
    assert after.constants.pointwise == pytest.approx(before.constants.pointwise, rel=0.02)
    assert after.error.rms == pytest.approx(before.error.rms, abs=0.005)


def test_this_machine_is_measured_and_kept(tmp_path, monkeypatch):
    """Real graphs through ONNX Runtime, few and short; how fast they are is no matter here."""
    from edge_vision.optimize.estimate import this_machine

    monkeypatch.setenv("EDGE_VISION_CACHE", str(tmp_path))
    monkeypatch.setattr(this_machine, "SECONDS_A_GRAPH", 0.0)
    monkeypatch.setattr(this_machine, "ROUNDS", 1)
    chosen = ["3 x 3, 128 channels at 14", "1 x 1, 384 channels at 7", "depthwise, 384 channels at 7"]
    monkeypatch.setattr(this_machine, "CHAINS", {name: CHAINS[name] for name in chosen})
    networks = {"MobileNetV2 0.35 at 96": NETWORKS["MobileNetV2 0.35 at 96"]}
    monkeypatch.setattr(this_machine, "NETWORKS", networks)
    lines: list[str] = []
    target, rows = this_machine.this_machine(1, ("int8",), log=lines.append)
    again, kept = this_machine.this_machine(1, ("int8",), log=lines.append)
    assert len(lines) == 1
    assert (again.settings[0].constants, kept) == (target.settings[0].constants, rows)
    assert [row.network for row in rows] == list(networks)
    assert rows[0].measured > 0
    model = model_of(mobilenet_v2_graph(True, 0.35, 96), "v2")
    found = estimate(model, target)
    assert found.latencies[0].ms == pytest.approx(rows[0].estimated)
    assert "this" in summary_text(rows)
    assert "MobileNetV2" in errors_text(rows, markdown=True)
    (tmp_path / "estimate" / "int8_1.json").write_text("{", encoding="utf-8")
    this_machine.this_machine(1, ("int8",), log=lines.append)
    assert len(lines) == 2


def test_a_clock_that_stands_still_for_a_run_measures_none():
    """Seen on a virtual machine: one thread's time did not advance, and a network that takes no time was divided by."""
    pytest.importorskip("onnxruntime")
    from edge_vision.optimize.estimate import this_machine

    session = type("Session", (), {"run": lambda self, outputs, feed: None})()
    readings = iter([1.0, 1.0, 2.0, 2.5, 3.0, 3.25])
    assert this_machine._least(session, {}, 2, lambda: next(readings)) == 0.5
    readings = iter([1.0, 1.0, 2.0, 2.0, 3.0, 3.25])
    assert this_machine._least(session, {}, 2, lambda: next(readings)) == 0.25, "another run is taken"


def test_probes_are_what_they_are_called():
    for name, build in CHAINS.items():
        for int8 in (False, True):
            model = model_of(build(int8), name)
            assert model.precision == ("int8" if int8 else "fp32"), name
    depthwise = model_of(CHAINS["depthwise, 32 channels at 80"](False), "probe")
    assert {op.kind for op in depthwise.operations if op.macs} == {"depthwise"}


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0123, "0.012"), (1.55, "1.6"), (12.4, "12"), (1234.0, "1200"), (0, "0")]
)
def test_numbers_have_two_digits(value, shown):
    assert digits(value) == shown


def test_free_operators_cost_nothing():
    free = Operation("view", "Reshape", "free", 0, 100, 0, 100)
    assert not work([free], "fp32").any()


def test_a_real_file_against_times_that_nothing_was_fitted_to(shared_data):
    """FastestDet, from its ONNX file to the milliseconds of ncnn's benchmark/README.md (docs/estimate.md)."""
    model = read_model(shared_data / "models" / "fastestdet_coco.onnx")
    published = {
        "raspberry_pi_4": {"ncnn-4": 38.39, "ncnn-1": 52.11},
        "raspberry_pi_5": {"ncnn-4": 4.83, "ncnn-1": 7.33},
        "jetson_orin_nano": {"ncnn-6": 4.82, "ncnn-1": 9.80},
    }
    for name, times in published.items():
        found = {latency.setting: latency.ms for latency in estimate(model, find_target(name)).latencies}
        for setting, measured in times.items():
            assert 0.6 < found[setting] / measured < 1.6, (name, setting)
