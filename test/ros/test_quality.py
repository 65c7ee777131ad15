"""The quality node: verdicts on topic and diagnostics, references, images of anybody's; the inference node's gate."""

from __future__ import annotations

import math
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from edge_vision.msg import ImageQuality, QualityVerdict
from ros_harness import RELIABLE, Observer, Process, Received, image_message, square, stamp_of
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from edge_vision.quality.full_reference import compare
from edge_vision.simulation import Conveyor, ConveyorOptions

BELT = "sim://conveyor?seed=5"
SOURCE = f"{BELT}&width=320&height=240"
SECOND = 10**9


@pytest.fixture(scope="module")
def twin() -> list[np.ndarray]:
    """A second of the belt, 320 x 240 BGR at 30 fps."""
    scene = Conveyor(ConveyorOptions.from_uri(SOURCE))
    return [scene.render(index).frame.image for index in range(30)]


def verdict(message: ImageQuality, cause: str) -> QualityVerdict:
    return next(v for v in message.verdicts if v.cause == cause)


def send(observer: Observer, publisher, image: np.ndarray, stamp: int, encoding: str = "bgr8") -> None:
    publisher.publish(image_message(image, stamp, encoding))
    observer.spin_for(0.01)


def heard(observer: Observer, process: Process, publisher, topic: str) -> None:
    """Until the node gets the images, and the observer its reports."""

    def reliably() -> bool:  # it changes over to it, and what is sent at that moment is lost
        inputs = observer.node.get_subscriptions_info_by_topic(publisher.topic)
        return any(i.qos_profile.reliability == RELIABLE.reliability for i in inputs)

    observer.spin_until(reliably, "a reliable subscription", process)
    observer.wait_for_subscriber(publisher, process)
    observer.spin_until(lambda: observer.node.count_publishers(topic) == 1, f"{topic} is offered", process)
    observer.spin_for(0.3)  # it knows of us a moment after we know of it


def measured(observer: Observer, process: Process, publisher, reports: Received, *sent) -> ImageQuality:
    """Sends an image, and returns its report."""
    before = len(reports)
    send(observer, publisher, *sent)
    observer.spin_until(lambda: len(reports) > before, "a report", process)
    assert stamp_of(reports[-1]) == sent[1]
    return reports[-1]


@pytest.mark.parametrize(
    ("namespace", "change", "cause", "what"),
    [
        ("/clean", "", "ok", ""),
        ("/night", "&exposure=0.0005", "dark", "p99 .* DN .limit 64 DN.*more light"),
        ("/haze", "blur", "blurred", "blur_sigma .* px .limit .* px.*focus the lens"),
    ],
)
def test_the_twins_picture_is_judged_on_the_topic_and_in_the_diagnostics(
    observer, start, tmp_path, twin, namespace, change, cause, what
):
    source, size = BELT + change, (640, 480)
    if change == "blur":
        source, size = tmp_path, (320, 240)
        for index, image in enumerate(twin):
            cv2.imwrite(str(tmp_path / f"{index:03}.png"), cv2.GaussianBlur(image, (0, 0), 2.5))
    process = start("quality", parameters={"rate": 0.0}, namespace=namespace)
    start("camera", parameters={"source": source, "loop": True, "fps": 15.0}, namespace=namespace)
    with (
        observer.listen(ImageQuality, f"{namespace}/image_quality") as reports,
        observer.listen(Image, f"{namespace}/image_raw", RELIABLE) as images,
    ):
        reports.wait(12, process)
        newest = reports[-1]

        def shared() -> set[int]:
            return {stamp_of(r) for r in reports} & {stamp_of(m) for m in images}

        observer.spin_until(lambda: len(shared()) > 2, "reports with the stamps of their images", process)
        assert newest.cause == cause, newest
        assert (newest.width, newest.height, newest.channels, newest.bits) == (*size, 3, 8)
        assert {v.cause for v in newest.verdicts if v.blamed} >= {cause} - {"ok"}
        assert (newest.header.frame_id, math.isnan(newest.ssim)) == (images[-1].header.frame_id, True)
    name = f"{namespace[1:]}/quality"
    level = DiagnosticStatus.OK if cause == "ok" else DiagnosticStatus.WARN
    status = observer.wait_for_status(name, level, process)
    values = observer.fresh_values(name, process)
    assert values["picture"] == cause
    assert {"analyse p50 [ms]", "publish p95 [ms]"} <= set(values)
    if cause != "ok":
        observer.spin_until(lambda: observer.diagnostics[name].message.startswith(cause), "its words", process)
        assert re.match(f"{cause}: {what}", observer.diagnostics[name].message)
        assert " of " in values[f"reports of {cause}"]
    else:
        assert status.message == "running"


def test_a_stranger_whose_picture_is_frozen(observer, start, twin) -> None:
    process = start("quality", parameters={"rate": 0.0}, namespace="/stuck")
    images = observer.publisher(Image, "/stuck/image_raw", RELIABLE)
    with observer.listen(ImageQuality, "/stuck/image_quality") as reports:
        heard(observer, process, images, "/stuck/image_quality")
        for index, image in enumerate([*twin[:5], *[twin[5]] * 9]):
            newest = measured(observer, process, images, reports, image, (100 + index) * SECOND)
        assert newest.cause == "frozen"
        assert (verdict(newest, "frozen").figure, newest.frozen_s) == (8.0, 8.0)
        assert verdict(newest, "frozen").blamed
        values = observer.fresh_values("stuck/quality", process)
        assert observer.diagnostics["stuck/quality"].level == DiagnosticStatus.WARN
        assert "restart the camera's driver" in observer.diagnostics["stuck/quality"].message
        assert values["frozen"].startswith("frozen_frames 8 frames (limit ")
        # Alive again.
        assert measured(observer, process, images, reports, twin[6], 120 * SECOND).cause != "frozen"


def test_limits_change_live_and_wrong_values_are_refused(observer, start, twin) -> None:
    process = start("quality", parameters={"rate": 0.0}, namespace="/live")
    images = observer.publisher(Image, "/live/image_raw", RELIABLE)
    with observer.listen(ImageQuality, "/live/image_quality") as reports:
        heard(observer, process, images, "/live/image_quality")
        assert measured(observer, process, images, reports, twin[0], SECOND).cause == "ok"
        assert observer.set_parameter("/live/quality", "limit_dark", 255.0) == (True, "")
        newest = measured(observer, process, images, reports, twin[1], 2 * SECOND)
        assert (newest.cause, verdict(newest, "dark").threshold) == ("dark", 255.0)
        for name, value, says in [
            ("limit_dark", -1.0, "limit_dark out of range"),
            ("bits", 5, "bits is 5; give 8 to 16"),
            ("reference_image", "/nowhere.png", "/nowhere.png: there is no such file, or it is no picture"),
        ]:
            good, why = observer.set_parameter("/live/quality", name, value)
            assert not good
            assert says in why
        assert measured(observer, process, images, reports, twin[2], 3 * SECOND).cause == "dark"


def test_a_reference_image_gives_ssim_its_map_and_says_where_sizes_differ(observer, start, tmp_path, twin) -> None:
    good = tmp_path / "good.png"
    cv2.imwrite(str(good), twin[0])
    parameters = {"rate": 0.0, "reference_image": good}
    process = start("quality", parameters=parameters, namespace="/compared")
    images = observer.publisher(Image, "/compared/image_raw", RELIABLE)
    name = "compared/quality"
    with observer.listen(ImageQuality, "/compared/image_quality") as reports:
        heard(observer, process, images, "/compared/image_quality")
        same = measured(observer, process, images, reports, twin[0], SECOND)
        assert (same.identical, same.psnr, same.ssim, same.mse) == (True, math.inf, 1.0, 0.0)
        worse = cv2.GaussianBlur(twin[0], (0, 0), 1.5)
        found = measured(observer, process, images, reports, worse, 2 * SECOND)
        grey = [cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) for image in (worse, twin[0])]
        wanted = compare(*grey)
        assert (found.mse, found.psnr, found.reference_snr) == (wanted.mse, wanted.psnr, wanted.snr)
        assert (found.ssim, found.ms_ssim, found.identical) == (wanted.ssim, wanted.ms_ssim, False)
        assert found.ssim < 0.99
        rgb = measured(observer, process, images, reports, worse[:, :, ::-1].copy(), 3 * SECOND, "rgb8")
        assert rgb.ssim == found.ssim, "the encoding makes no difference"
        assert "compare p50 [ms]" in observer.fresh_values(name, process)

        with observer.listen(Image, "/compared/ssim_map", RELIABLE) as maps:
            observer.spin_until(lambda: observer.node.count_publishers("/compared/ssim_map") == 1, "maps", process)
            half = twin[0].copy()
            half[:, 160:] = 255 - half[:, 160:]
            stamp = 3 * SECOND

            def seen() -> bool:
                nonlocal stamp
                stamp += SECOND
                measured(observer, process, images, reports, half, stamp)
                return bool(maps)

            observer.spin_until(seen, "an SSIM map", process)
            picture = np.frombuffer(maps[-1].data, np.uint8).reshape(240, 320)
            assert (maps[-1].encoding, maps[-1].width, maps[-1].height) == ("mono8", 320, 240)
            assert picture[:, :150].min() > 250, "what is the same is white"
            assert np.median(picture[:, 170:]) < 60

        other = measured(observer, process, images, reports, twin[0][:200], 60 * SECOND)
        assert math.isnan(other.ssim)
        assert math.isnan(other.psnr)
        assert other.mean > 0, "the rest of the report is there"
        process.wait_for_log("the image is 320 x 200 pixels and the reference 320 x 240 pixels. Give a reference")
        observer.wait_for_status(name, DiagnosticStatus.WARN, process)
        assert "not compared with the reference" in observer.diagnostics[name].message
        assert math.isnan(measured(observer, process, images, reports, twin[0][:8, :8], 61 * SECOND).ssim)
        assert measured(observer, process, images, reports, twin[0], 62 * SECOND).identical


def test_references_of_a_topic_are_paired_by_stamp(observer, start, twin) -> None:
    process = start("quality", parameters={"rate": 0.0, "use_reference": True}, namespace="/pairs")
    images = observer.publisher(Image, "/pairs/image_raw", RELIABLE)
    references = observer.publisher(Image, "/pairs/reference", RELIABLE)
    with observer.listen(ImageQuality, "/pairs/image_quality") as reports:
        heard(observer, process, images, "/pairs/image_quality")
        heard(observer, process, references, "/pairs/image_quality")
        # The reference first, then the image first, an image without one, and at last one of another size.
        send(observer, references, twin[0], 10 * SECOND)
        send(observer, references, twin[1], 11 * SECOND)
        observer.spin_for(0.3)
        assert measured(observer, process, images, reports, twin[0], 10 * SECOND).identical
        send(observer, images, twin[0], 12 * SECOND)
        observer.spin_for(0.3)
        before = len(reports)
        send(observer, references, twin[1], 12 * SECOND)
        observer.spin_until(lambda: len(reports) > before, "a report", process)
        assert stamp_of(reports[-1]) == 12 * SECOND
        assert 0 < reports[-1].ssim < 1
        send(observer, images, twin[2], 13 * SECOND)
        observer.spin_for(0.2)
        assert stamp_of(reports[-1]) == 12 * SECOND, "it waits for its reference"
        send(observer, images, twin[3], 15 * SECOND)
        observer.spin_until(lambda: stamp_of(reports[-1]) == 13 * SECOND, "the report without reference", process)
        assert math.isnan(reports[-1].ssim)
        assert observer.fresh_values("pairs/quality", process)["reports without reference"] == "1"
        send(observer, references, twin[3][:, :200].copy(), 15 * SECOND)
        observer.spin_until(lambda: stamp_of(reports[-1]) == 15 * SECOND, "the report", process)
        assert math.isnan(reports[-1].ssim)
        process.wait_for_log("the reference 200 x 240 pixels")


def test_whatever_comes_the_node_goes_on(observer, start, twin) -> None:
    process = start("quality", parameters={"rate": 0.0}, namespace="/odd")
    images = observer.publisher(Image, "/odd/image_raw", RELIABLE)
    grey = cv2.cvtColor(twin[0], cv2.COLOR_BGR2GRAY)
    with observer.listen(ImageQuality, "/odd/image_quality") as reports:
        heard(observer, process, images, "/odd/image_quality")
        stamps = iter(range(SECOND, 10**12, SECOND))

        def look(image: np.ndarray, encoding: str) -> ImageQuality:
            return measured(observer, process, images, reports, image, next(stamps), encoding)

        rgba = cv2.cvtColor(twin[0], cv2.COLOR_BGR2RGBA)
        for _ in range(2):  # alternating
            colour = look(twin[0], "bgr8")
            assert look(twin[0][:, :, ::-1].copy(), "rgb8").cast_red == pytest.approx(colour.cast_red, nan_ok=True)
            assert look(rgba, "rgba8").mean == pytest.approx(colour.mean)
            assert look(grey, "mono8").mean == pytest.approx(colour.mean)
            wide = look(grey.astype(np.uint16) * 257, "mono16")
            assert (wide.bits, wide.channels) == (16, 1)
            assert wide.mean == pytest.approx(colour.mean, abs=0.1)
        assert look(np.zeros((240, 320, 3), np.uint8), "bgr8").cause == "black"
        one = look(np.full((1, 1, 3), 120, np.uint8), "bgr8")
        assert (one.width, one.height) == (1, 1)
        assert one.mean == pytest.approx(120)
        holes = np.full((24, 32), np.nan, np.float32)
        send(observer, images, holes, next(stamps), "32FC1")
        process.wait_for_log("unknown image encoding '32FC1'.*Convert it at its source")
        assert look(twin[0], "bgr8").mean == pytest.approx(colour.mean)
        values = observer.fresh_values("odd/quality", process)
        assert (values["rejected"], values["published"]) == ("1", "13")


def test_at_a_rate_recordings_are_measured_by_their_stamps(observer, start, twin) -> None:
    deep = {"qos_overrides./slow/image_raw.subscription.depth": 50}  # thirty come in a third of a second
    process = start("quality", parameters={"rate": 5.0, "input_mode": "every"} | deep, namespace="/slow")
    images = observer.publisher(Image, "/slow/image_raw", RELIABLE)
    with observer.listen(ImageQuality, "/slow/image_quality") as reports:
        heard(observer, process, images, "/slow/image_quality")
        stamps = [100 * SECOND + round(index * SECOND / 30) for index in range(30)]
        for image, stamp in zip(twin, stamps, strict=True):
            send(observer, images, image, stamp)
        observer.spin_until(lambda: observer.values("slow/quality").get("received") == "30", "all have come", process)
        observer.fresh_values("slow/quality", process)
        assert [stamp_of(m) for m in reports] == stamps[::6]


# --- the gate --------------------------------------------------------------------------------------------------------


def picture_report(stamp: int, cause: str) -> ImageQuality:
    message = ImageQuality(cause=cause)
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, SECOND)
    bad = cause != "ok"
    message.verdicts = [
        QualityVerdict(
            cause="dark" if not bad else cause, figure=12.0, threshold=64.0, severity=5.0 if bad else 0.2, blamed=bad
        )
    ]
    return message


def test_the_gate_marks_or_skips_and_opens_when_nobody_judges_any_more(observer, start, model: Path) -> None:
    process = start("inference", parameters={"model": model, "backend": "onnxruntime"}, namespace="/gate")
    images = observer.publisher(Image, "/gate/image_raw", RELIABLE)
    reports = observer.publisher(ImageQuality, "/gate/image_quality")
    picture = square((40, 60, 80, 100))
    stamp = SECOND
    with observer.listen(Detection2DArray, "/gate/detections") as detections:
        observer.wait_for_subscriber(reports, process)
        heard(observer, process, images, "/gate/detections")

        def found(cause: str | None = None) -> int:
            """Objects of the next image, which comes after a report where a cause is given."""
            nonlocal stamp
            stamp += SECOND // 10
            if cause is not None:
                reports.publish(picture_report(stamp, cause))
                observer.spin_for(0.25)
            images.publish(image_message(picture, stamp))
            observer.spin_until(lambda: detections and stamp_of(detections[-1]) == stamp, "detections", process)
            assert detections[-1].header.frame_id == "dock"
            return len(detections[-1].detections)

        def gate(**parameters: object) -> None:
            for name, value in parameters.items():
                assert observer.set_parameter("/gate/inference", name, value) == (True, "")

        assert found("dark") == 1, "off by default"
        gate(quality_gate="mark")
        assert found("dark") == 1
        values = observer.fresh_values("gate/inference", process)
        assert values["frames marked for their quality"] == "1"
        assert values["picture"].startswith("dark: ")
        gate(quality_gate="skip", quality_gate_age=30.0)
        assert found("dark") == 0
        assert found() == 0
        observer.fresh_values("gate/inference", process)
        assert observer.diagnostics["gate/inference"].level == DiagnosticStatus.WARN
        assert "frames are skipped for their quality (dark: " in observer.diagnostics["gate/inference"].message
        assert found("ok") == 1
        gate(quality_gate_causes="blurred, frozen")
        assert found("dark") == 1
        assert found("frozen") == 0
        assert observer.fresh_values("gate/inference", process)["frames skipped for their quality"] == "4"
        good, why = observer.set_parameter("/gate/inference", "quality_gate_causes", "gloomy")
        assert not good
        assert "unknown cause gloomy; there are black, frozen" in why
        # Nobody judges any more: by the stamps, and by the clock where stamps stand still.
        gate(quality_gate_age=0.5)
        observer.spin_for(0.6)
        assert found() == 1
        assert found("frozen") == 0
        stamp += SECOND
        assert found() == 1
        observer.spin_for(0.6)
        assert "no fresh image_quality" in observer.fresh_values("gate/inference", process)["picture"]
        gate(quality_gate="off")
        assert found("frozen") == 1


def test_a_dark_pipeline_skips_inference_and_counts(observer, start, model: Path) -> None:
    process = start(
        "pipeline",
        *("camera", "quality", "inference"),
        parameters={
            "source": f"{SOURCE}&exposure=0.0005",
            "model": model,
            "backend": "onnxruntime",
            "quality_gate": "skip",
            "quality_gate_causes": "dark",
            "rate": 10.0,
        },
        namespace="/cellar",
    )
    with observer.listen(Detection2DArray, "/cellar/detections") as detections:
        detections.wait(10, process)
        values = observer.fresh_values("cellar/inference", process)
        assert values["quality gate"] == "skip"
        assert "dark" in values["picture"]
        skipped = int(values["frames skipped for their quality"])
        assert 0 < skipped <= int(values["published"])
        detections.wait(5, process)
        assert not detections[-1].detections
        later = observer.fresh_values("cellar/inference", process)
        assert int(later["frames skipped for their quality"]) > skipped
