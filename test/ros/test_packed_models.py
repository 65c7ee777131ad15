"""A packed model in a running node: it detects as the plain one does, and a damaged one is told."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from ros_harness import image_message, square, stamp_of
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

pytest.importorskip("onnx", reason="onnx packs the test model: scripts/setup.sh --with-tests")


@pytest.fixture(scope="module")
def packed(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from edge_vision.optimize.packing import pack_bytes

    path = tmp_path_factory.mktemp("packed") / "brightest.onnx.evp"
    path.write_bytes(pack_bytes(model.read_bytes()).content)
    return path


def test_a_node_runs_a_packed_model_and_refuses_a_damaged_one(observer, start, packed: Path) -> None:
    process = start("inference", parameters={"model": packed, "backend": "onnxruntime"}, namespace="/packed")
    stamps = itertools.count(10**18, 10**8)
    images = observer.publisher(Image, "/packed/image_raw")
    with observer.listen(Detection2DArray, "/packed/detections") as answers:
        first = next(stamps)

        def answered() -> bool:
            images.publish(image_message(square((64, 40, 128, 88)), next(stamps)))
            observer.spin_for(0.05)
            return any(stamp_of(answer) > first and answer.detections for answer in answers)

        observer.spin_until(answered, "answer", process)
        (found,) = next(a for a in answers if stamp_of(a) > first and a.detections).detections
        assert found.results[0].hypothesis.class_id
    assert not list(Path("/dev/shm").glob(f"edge_vision-bundle-*/{packed.name.removesuffix('.evp')}"))
    damaged = packed.with_name("damaged.onnx.evp")
    damaged.write_bytes(packed.read_bytes()[:-1])
    set_it, reason = observer.set_parameter("/packed/inference", "model", str(damaged))
    assert not set_it
    assert "damaged.onnx.evp: cannot be unpacked" in reason
    assert "Copy or download it again" in reason
    assert observer.state("/packed/inference") == "active"
    assert "Traceback" not in process.log
    assert process.stop() == 0
