"""QualityReport: message and back; images as the quality room takes them; the inference node's gate."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from edge_vision.msg import ImageQuality
from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message

from edge_vision.datatypes import NS_PER_S, Frame, QualityReport, Verdict
from edge_vision.nodes.quality import QualityNodeParameters
from edge_vision.quality.no_reference import analyse
from edge_vision.quality.remedies import REMEDIES, advice
from edge_vision.quality.verdicts import CAUSES
from edge_vision.ros.adapters import BadMessage
from edge_vision.ros.quality_adapters import IMAGE_QUALITY, mono_or_bgr
from edge_vision.ros.quality_gate import QualityGate

STAMP = 1_700_000_000_123_456_789
EVERY = {
    field.name: float(number) + 0.25 if field.type == "float" else number
    for number, field in enumerate(dataclasses.fields(QualityReport), 1)
    if field.type in ("float", "int")
}


def through_ros(report: QualityReport) -> QualityReport:
    message = IMAGE_QUALITY.to_message(report)
    return IMAGE_QUALITY.from_message(deserialize_message(serialize_message(message), ImageQuality))


def assert_same(one: QualityReport, other: QualityReport) -> None:
    for field in dataclasses.fields(QualityReport):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if field.name == "zones" or field.type == "float":
            np.testing.assert_array_equal(a, b, field.name)
        elif field.name == "verdicts":
            assert [dataclasses.astuple(v)[0::4] for v in a] == [dataclasses.astuple(v)[0::4] for v in b]
            for left, right in zip(a, b, strict=True):
                np.testing.assert_array_equal(
                    (left.figure, left.threshold, left.severity), (right.figure, right.threshold, right.severity)
                )
                assert (left.name, left.unit, left.blamed) == (right.name, right.unit, right.blamed)
        else:
            assert a == b, field.name


def test_every_field_survives_the_way_there_and_back():
    report = QualityReport(
        cause="dark",
        verdicts=(
            Verdict("dark", 12.5, 64.0, 5.12, "p99", "DN"),
            Verdict("flicker", math.nan, 0.015, math.nan, "flicker", ""),
        ),
        noise_method="two_frame",
        noise_channels=(1.5, 2.5, 3.5),
        zones=np.arange(9.0).reshape(3, 3) + 0.125,
        frame_id="camera",
        **{**EVERY, "stamp": STAMP},
    )
    assert len(set(EVERY.values())) == len(EVERY)  # no two fields could be mixed up unseen
    assert_same(through_ros(report), report)
    message = IMAGE_QUALITY.to_message(report)
    assert [v.blamed for v in message.verdicts] == [True, False]
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == divmod(STAMP, NS_PER_S)


def test_a_report_of_nothing_and_whole_numbers_in_float_fields_are_safe():
    assert_same(through_ros(QualityReport()), QualityReport())
    through_ros(QualityReport(mean=128, blur_sigma=1, zones=np.zeros((3, 3), np.int64)))  # type: ignore[arg-type]


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40), st.sampled_from([None, 3]))
def test_reports_of_any_image_survive(seed: int, height: int, width: int, channels: int | None):
    shape = (height, width) if channels is None else (height, width, channels)
    report = analyse(np.random.default_rng(seed).integers(0, 256, shape, np.uint8))
    assert_same(through_ros(report), report)
    assert not IMAGE_QUALITY.to_message(report).identical


def test_identical_images_are_flagged_since_json_knows_no_infinity():
    message = IMAGE_QUALITY.to_message(QualityReport(psnr=math.inf, reference_snr=math.inf, ssim=1.0))
    assert message.identical
    assert math.isinf(message.psnr)


def test_a_message_that_nobody_filled_in_is_refused():
    with pytest.raises(BadMessage, match="without a cause: fill it in"):
        IMAGE_QUALITY.from_message(ImageQuality())


@pytest.mark.parametrize(
    ("encoding", "pixel"), [("bgr8", (10, 20, 30)), ("rgb8", (30, 20, 10)), ("bgra8", (10, 20, 30, 7)),
                            ("rgba8", (30, 20, 10, 7))]
)  # fmt: skip
def test_colours_of_every_encoding_are_measured_as_bgr(encoding: str, pixel: tuple):
    frame = Frame(np.full((4, 6, len(pixel)), pixel, np.uint8), STAMP, "camera", 5, encoding)
    found = mono_or_bgr(frame)
    assert found.image.shape == (4, 6, 3)
    assert found.image[0, 0].tolist() == [10, 20, 30]
    assert (found.encoding, found.stamp, found.frame_id, found.sequence) == ("bgr8", STAMP, "camera", 5)
    assert mono_or_bgr(found) is found, "nothing is copied where nothing is to be done"


def test_every_cause_has_a_remedy_and_advice_names_figure_limit_and_what_to_do():
    assert set(REMEDIES) == set(CAUSES)
    report = analyse(np.full((64, 64), 30, np.uint8))
    said = advice(report)
    assert said is not None
    assert said.startswith(f"{report.cause}: ")
    assert "limit" in said
    assert said.endswith(REMEDIES[report.cause])
    assert advice(QualityReport()) is None


@pytest.mark.parametrize("fps", [15, 24, 30, 60])
def test_at_the_nodes_own_rate_light_on_50_hz_is_not_always_met_in_one_phase(fps: int):
    rate = QualityNodeParameters().rate
    indices = sorted({math.ceil(round(report * fps / rate, 6)) for report in range(48)})  # first frame when one is due
    phases = {round(index * 100 / fps % 1, 6) % 1 for index in indices}
    assert len(phases) > 1


# --- the gate --------------------------------------------------------------------------------------------------------

DARK = QualityReport(cause="dark", verdicts=(Verdict("dark", 12.0, 64.0, 5.3, "p99", "DN"),), stamp=STAMP)
GOOD = QualityReport(verdicts=(Verdict("dark", 200.0, 64.0, 0.3, "p99", "DN"),), stamp=STAMP)


class Clock:
    def __init__(self) -> None:
        self.ns = 0

    def __call__(self) -> int:
        return self.ns


def test_frames_pass_until_a_bad_report_comes_and_again_after_a_good_one():
    gate = QualityGate("skip", "", 2.0, Clock())
    assert gate.passes(STAMP)
    assert gate.reason() is None
    gate.learn(DARK)
    assert not gate.passes(STAMP + NS_PER_S)
    assert gate.reason() == "dark: p99 12 DN (limit 64 DN)"
    gate.learn(GOOD)
    assert gate.passes(STAMP + NS_PER_S)
    assert gate.bad == 1
    assert gate.status()["frames skipped for their quality"] == "1"


def test_only_the_causes_asked_for_count():
    gate = QualityGate("mark", "blurred, frozen", 2.0, Clock())
    gate.learn(DARK)
    assert gate.passes(STAMP)
    gate = QualityGate("mark", "blurred dark", 2.0, Clock())
    gate.learn(DARK)
    assert not gate.passes(STAMP)
    with pytest.raises(ValueError, match="unknown cause gloomy; there are black, frozen"):
        QualityGate("mark", "gloomy", 2.0)


def test_a_quality_node_that_has_died_blocks_nothing():
    clock = Clock()
    gate = QualityGate("skip", "", 2.0, clock)
    gate.learn(DARK)
    assert gate.passes(STAMP + 3 * NS_PER_S), "too old by its stamp"
    assert gate.passes(STAMP - 3 * NS_PER_S), "of another time"
    assert not gate.passes(STAMP)
    clock.ns = 3 * NS_PER_S
    assert gate.passes(STAMP), "a camera whose stamps stand still"
    assert gate.reason() is None
    assert "no fresh image_quality" in gate.status()["picture"]


def test_other_settings_keep_what_is_known_and_counted():
    clock = Clock()
    before = QualityGate("mark", "", 2.0, clock)
    before.learn(DARK)
    assert not before.passes(STAMP)
    after = QualityGate("skip", "dark", 2.0, clock)
    after.carry_over(before)
    assert after.bad == 1
    assert not after.passes(STAMP)
    fresh = QualityGate("skip", "dark", 2.0, clock)
    fresh.carry_over(QualityGate("off", "", 2.0, clock))
    assert fresh.passes(STAMP)
