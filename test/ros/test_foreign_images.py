"""A pipeline without a camera takes images from anybody: honest ones are answered, broken ones named."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from rclpy.serialization import serialize_message
from ros_harness import BEST_EFFORT, RELIABLE, Observer, Process, corners, image_message, square, stamp_of
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2DArray

BOX = (64, 40, 128, 88)
_stamps = itertools.count(1_700_000_000_000_000_000, 100_000_000)


class Conversation:
    """Images out, detections back."""

    def __init__(self, observer: Observer, process: Process, kind: type, image_topic: str, detections: str, qos=10):
        self._observer = observer
        self._process = process
        self._publisher = observer.publisher(kind, image_topic, qos)
        self._answers = observer.listen(Detection2DArray, detections)

    def ask(self, make: Callable[[int], object]) -> Detection2DArray:
        """The answer to the message that `make(stamp)` gives.

        Sent again (with another stamp) where no answer comes: the node takes images best effort.
        """
        stamps = set()

        def answered() -> bool:
            return any(stamp_of(answer) in stamps for answer in self._answers)

        for _ in range(20):
            stamps.add(next(_stamps))
            self._publisher.publish(make(max(stamps)))
            try:
                self._observer.spin_until(answered, "answer", self._process, timeout=2.0)
                break
            except AssertionError:
                if not self._process.alive:
                    raise
        assert answered(), self._process.log
        return next(answer for answer in self._answers if stamp_of(answer) in stamps)

    def tell(self, message: object) -> None:
        self._publisher.publish(message)

    def close(self) -> None:
        self._observer.node.destroy_publisher(self._publisher)
        self._answers.close()


@pytest.fixture(scope="module")
def process(start_shared, model) -> Process:
    return start_shared(
        "pipeline",
        "inference",
        "tracking",
        parameters={"model": model},
        remaps={"image_raw": "/outside/picture", "detections": "found"},
    )


@pytest.fixture(scope="module")
def talk(observer, process):
    conversation = Conversation(observer, process, Image, "/outside/picture", "/found")
    yield conversation
    conversation.close()


def bgra(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_BGR2BGRA)


def rgb(image: np.ndarray) -> np.ndarray:
    return image[..., ::-1].copy()


def rgba(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGBA)


ENCODINGS = {"bgr8": lambda image: image, "rgb8": rgb, "bgra8": bgra, "rgba8": rgba, "8UC3": lambda image: image}


def check(answer: Detection2DArray, class_id: int | None, box: tuple = BOX) -> None:
    assert len(answer.detections) == 1
    detection = answer.detections[0]
    assert corners(detection) == pytest.approx(list(box), abs=1e-3)
    assert answer.header.frame_id == detection.header.frame_id == "dock"
    assert detection.header.stamp == answer.header.stamp
    if class_id is not None:
        assert detection.results[0].hypothesis.class_id == str(class_id)


@pytest.mark.parametrize("colour", [0, 2])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_colour_encodings(talk, encoding, colour) -> None:
    pixels = ENCODINGS[encoding](square(BOX, colour))
    check(talk.ask(lambda stamp: image_message(pixels, stamp, encoding)), colour)


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_grey(talk, encoding) -> None:
    pixels = square(BOX, 0).max(axis=2)
    check(talk.ask(lambda stamp: image_message(pixels, stamp, encoding)), None)


def test_sixteen_bits(talk) -> None:
    """mono16 is scaled to what models take."""
    pixels = square(BOX, 0).max(axis=2).astype(np.uint16) * 257
    check(talk.ask(lambda stamp: image_message(pixels, stamp, "mono16")), None)


def test_packed_colours(talk) -> None:
    """YUYV as webcams give it: colours survive, edges within a pixel (chroma is shared by two)."""
    pixels = square(BOX, 1)
    yuv = cv2.cvtColor(pixels, cv2.COLOR_BGR2YUV)
    packed = np.empty((*pixels.shape[:2], 2), np.uint8)
    packed[..., 0] = yuv[..., 0]
    packed[:, 0::2, 1] = yuv[:, 0::2, 1]
    packed[:, 1::2, 1] = yuv[:, 0::2, 2]
    answer = talk.ask(lambda stamp: image_message(packed, stamp, "yuv422_yuy2"))
    check(answer, 1)


def test_rows_with_padding(talk) -> None:
    """step above width * channels: 32 bytes of padding that look like a bright object must not be seen."""
    pixels = square(BOX, 1)
    padded = np.full((192, 256 * 3 + 32), 255, np.uint8)
    padded[:, : 256 * 3] = pixels.reshape(192, -1)

    def make(stamp: int) -> Image:
        message = image_message(pixels, stamp)
        message.step = padded.shape[1]
        message.data = padded.tobytes()
        return message

    check(talk.ask(make), 1)


@pytest.mark.parametrize(("width", "height"), [(128, 96), (512, 192), (200, 300), (384, 288)])
def test_boxes_are_in_pixels_of_the_source_whatever_its_size(talk, width, height) -> None:
    # A multiple of the letterbox's scale, so that the model sees the edges where they are.
    scale = max(width / 128, height / 96)
    box = tuple(round(value * scale) for value in (10, 8, 30, 24))
    answer = talk.ask(lambda stamp: image_message(square(box, 2, width, height), stamp))
    found = corners(answer.detections[0])
    assert found == pytest.approx(list(box), abs=0.51 * scale), "within half a pixel of the model's input"


def test_an_image_without_objects_has_an_empty_answer(talk) -> None:
    assert talk.ask(lambda stamp: image_message(square(None), stamp)).detections == []


@pytest.mark.parametrize("profile", [BEST_EFFORT, RELIABLE], ids=["best_effort", "reliable"])
def test_best_effort_and_reliable_publishers(observer, process, profile) -> None:
    conversation = Conversation(observer, process, Image, "/outside/picture", "/found", profile)
    check(conversation.ask(lambda stamp: image_message(square(BOX), stamp)), 0)
    conversation.close()


def broken(what: str) -> Image | bytes:
    message = image_message(square(BOX), next(_stamps))
    if what == "step":
        message.step = 100
    elif what == "encoding":
        message.encoding = "bgr7"
    elif what == "data":
        message.data = message.data[:1000]
    elif what == "zero size":
        message.height = message.width = message.step = 0
        message.data = b""
    elif what == "no data":
        message.data = b""
    elif what == "truncated message":
        return serialize_message(message)[:-5000]
    elif what == "truncated header":
        return serialize_message(message)[:32]
    return message


BROKEN = {
    "step": r"step 100 does not fit 256 pixels of bgr8.*must set Image\.step",
    "encoding": r"unknown image encoding 'bgr7' \(known: bgr8, .*Convert it",
    "data": r"1000 bytes of pixels for 256 x 192 bgr8 .* need 147456: the image is truncated",
    "no data": r" 0 bytes of pixels .* truncated",
    "zero size": r"empty image \(0 x 0\)",
    "truncated message": r"truncated Image message: the message says 147456 bytes of pixels, 142456 came",
    "truncated header": r"truncated Image message: the message of 32 bytes ends inside its header",
}


def test_broken_images_give_one_error_each_and_the_next_good_one_its_answer(observer, process, talk) -> None:
    check(talk.ask(lambda stamp: image_message(square(BOX), stamp)), 0)  # the connection stands
    before = int(observer.fresh_values("inference", process)["rejected"])
    for what, told in BROKEN.items():
        for _ in range(3):
            talk.tell(broken(what))
            observer.spin_for(0.05)
        lines = process.wait_for_log(told)
        check(talk.ask(lambda stamp: image_message(square(BOX), stamp)), 0)
        assert len(process.lines(told)) == 1, "said once, not for every image"
        assert "[ERROR]" in lines[0]
        assert "/outside/picture" in lines[0], "the topic that it came on"
    assert "Traceback" not in process.log
    rejected = int(observer.fresh_values("inference", process)["rejected"]) - before
    # Best effort, newest only: of three in a row at least one is looked at.
    assert len(BROKEN) <= rejected <= 3 * len(BROKEN)


def test_compressed_images(observer, start, model) -> None:
    """image_transport:=compressed takes JPEG and PNG from <topic>/compressed, and names what is no picture."""
    process = start("inference", parameters={"model": model, "image_transport": "compressed"}, namespace="/packed")
    talk = Conversation(observer, process, CompressedImage, "/packed/image_raw/compressed", "/packed/detections")

    def make(kind: str, data: bytes | None = None) -> Callable[[int], CompressedImage]:
        def message(stamp: int) -> CompressedImage:
            made = CompressedImage(format=f"bgr8; {kind} compressed bgr8")
            made.header.frame_id = "dock"
            made.header.stamp.sec, made.header.stamp.nanosec = divmod(stamp, 10**9)
            made.data = cv2.imencode(f".{kind}", square(BOX, 2))[1].tobytes() if data is None else data
            return made

        return message

    check(talk.ask(make("png")), 2)
    answer = talk.ask(make("jpeg"))
    assert corners(answer.detections[0]) == pytest.approx(list(BOX), abs=2.0), "JPEG blurs the edge"
    half = cv2.imencode(".png", square(BOX))[1].tobytes()[:60]
    for text in (b"no picture", half, b""):
        talk.tell(make("jpeg", text)(next(_stamps)))
        process.wait_for_log(rf"CompressedImage \('bgr8; jpeg compressed bgr8', {len(text)} bytes\) cannot be decoded")
    check(talk.ask(make("png")), 2)
    assert int(observer.fresh_values("packed/inference", process)["rejected"]) == 3
    talk.close()
