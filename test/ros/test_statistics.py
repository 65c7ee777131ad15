"""What a running pipeline says of itself, and that work nobody looks at is not done."""

from __future__ import annotations

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from edge_vision.msg import NodeStats, PipelineStats, TrackArray
from ros_harness import BEST_EFFORT, SHARED_MEMORY, Observer, Process, stamp_of
from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import Detection2DArray
from visualization_msgs.msg import Marker, MarkerArray

from edge_vision.inference.backends import BACKENDS

NODES = ("camera", "inference", "tracking", "overlay", "monitor")
CAMERA_INFO = """
image_width: 256
image_height: 192
camera_name: dock
distortion_model: plumb_bob
camera_matrix: {rows: 3, cols: 3, data: [200, 0, 128, 0, 200, 96, 0, 0, 1]}
distortion_coefficients: {rows: 1, cols: 5, data: [0, 0, 0, 0, 0]}
rectification_matrix: {rows: 3, cols: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}
projection_matrix: {rows: 3, cols: 4, data: [200, 0, 128, 0, 0, 200, 96, 0, 0, 0, 1, 0]}
"""
FPS = 20.0


def plausible(rate: float) -> bool:
    """Whether a rate can be one of this pipeline: a busy machine makes it lower, nothing makes it much higher.

    That the figure is right is shown with a clock of ours in test/unit/ros/test_statistics.py.
    """
    return 0 < rate < 1.5 * FPS


@pytest.fixture(scope="module")
def process(start_shared, model, square_images, tmp_path_factory) -> Process:
    info = tmp_path_factory.mktemp("info") / "dock.yaml"
    info.write_text(CAMERA_INFO)
    parameters = {"source": square_images, "model": model, "loop": True, "fps": FPS, "camera_info": info}
    return start_shared("pipeline", *NODES, parameters=parameters, namespace="/cell")


def stages(observer: Observer, node: str, process: Process) -> dict[str, int]:
    """Samples of each stage of a node, by its next statistics."""
    with observer.listen(NodeStats, "/cell/node_stats") as received:
        observer.spin_until(lambda: any(m.node == node for m in received), f"node_stats of {node}", process)
        newest = [m for m in received if m.node == node][-1]
    return {stage.stage: stage.count for stage in newest.stages}


def test_overlay_is_drawn_only_while_somebody_looks(observer, process) -> None:
    with observer.listen(Detection2DArray, "/cell/tracks") as tracks:
        tracks.wait(10, process)
    assert "draw" not in stages(observer, "overlay", process)
    with observer.listen(Image, "/cell/overlay") as pictures:
        pictures.wait(5, process)
    drawn = pictures[-1]
    assert (drawn.width, drawn.height, drawn.encoding, drawn.step) == (256, 192, "bgr8", 768)
    assert drawn.header.frame_id == "camera_optical_frame"
    stamps = [stamp_of(picture) for picture in pictures]
    assert stamps == sorted(set(stamps))
    observer.spin_until(lambda: observer.node.count_subscribers("/cell/overlay") == 0, "nobody looks")
    observer.spin_for(1.5)  # until the publisher has seen it, too
    before = stages(observer, "overlay", process)["draw"]
    assert before >= 5
    assert stages(observer, "overlay", process)["draw"] == before


def test_markers(observer, process) -> None:
    with observer.listen(MarkerArray, "/cell/markers") as arrays:
        observer.spin_until(lambda: any(a.markers for a in arrays), "markers", process)
        array = next(a for a in arrays if a.markers)
    outline = next(m for m in array.markers if m.type == Marker.LINE_STRIP)
    text = next(m for m in array.markers if m.type == Marker.TEXT_VIEW_FACING)
    assert outline.header.frame_id == "camera_optical_frame"
    assert text.text.startswith("blue ")
    # The square is 40 px wide: 0.2 m in a camera of 200 px focal length at one metre.
    xs, ys = [p.x for p in outline.points], [p.y for p in outline.points]
    assert max(xs) - min(xs) == pytest.approx(0.2, abs=0.03)
    assert max(ys) - min(ys) == pytest.approx(0.2, abs=0.03)
    assert {p.z for p in outline.points} == {1.0}


def test_camera_info_goes_with_every_image(observer, process) -> None:
    with (
        observer.listen(CameraInfo, "/cell/camera_info", BEST_EFFORT) as infos,
        observer.listen(Image, "/cell/image_raw", BEST_EFFORT) as images,
    ):
        images.wait(5, process)
        infos.wait(3, process)
    assert {stamp_of(image) for image in images[1:-1]} <= {stamp_of(info) for info in infos}
    assert infos[-1].k.tolist() == [200, 0, 128, 0, 200, 96, 0, 0, 1]
    assert infos[-1].header.frame_id == images[-1].header.frame_id == "camera_optical_frame"


def test_track_states(observer, process) -> None:
    with observer.listen(TrackArray, "/cell/tracks/state") as arrays:
        observer.spin_until(lambda: any(t.age > 0.3 for a in arrays for t in a.tracks), "a grown track", process)
        track = next(t for a in arrays for t in a.tracks if t.age > 0.3)
    assert (track.class_id, track.class_name) == ("0", "blue")
    assert track.velocity_x == pytest.approx(8 * FPS, rel=0.25)
    assert track.velocity_y == pytest.approx(0, abs=20)
    assert track.bbox.size_x == pytest.approx(40, abs=4)


def test_diagnostics_say_how_the_nodes_fare(observer, process) -> None:
    names = [f"cell/{name}" for name in NODES]
    observer.spin_until(lambda: all(name in observer.diagnostics for name in names), "all diagnostics", process)
    for name in names:
        assert observer.wait_for_status(name, DiagnosticStatus.OK, process).message == "running"
        assert observer.diagnostics[name].hardware_id
    camera = observer.fresh_values("cell/camera", process)
    assert plausible(float(camera["output rate [Hz]"]))
    assert "40 images" in camera["source"]
    assert float(camera["publish p50 [ms]"]) <= float(camera["publish p95 [ms]"])

    inference = observer.values("cell/inference")
    for stage in ("preprocess", "run", "postprocess", "publish"):
        assert 0 < float(inference[f"{stage} p50 [ms]"]) <= float(inference[f"{stage} p95 [ms]"])
    assert plausible(float(inference["input rate [Hz]"]))
    assert plausible(float(inference["output rate [Hz]"]))
    assert int(inference["received"]) >= int(inference["published"]) > 10
    assert int(inference["dropped"]) + int(inference["published"]) == pytest.approx(int(inference["received"]), abs=2)
    assert inference["rejected"] == "0"
    assert 0 <= float(inference["age of newest input [s]"]) < 5
    assert inference["model"] == "brightest"
    assert inference["backend"].split()[0] in BACKENDS
    assert inference["device"] == "cpu"
    assert inference["precision"] == "fp32"
    assert "opens the model" in inference["chosen because"]

    tracking = observer.values("cell/tracking")
    assert float(tracking["latency p50 [ms]"]) > 0
    assert tracking["preset"] == "edge_vision"


def test_diagnostics_come_about_once_a_second(observer, process) -> None:
    with observer.listen(DiagnosticArray, "/diagnostics") as arrays:
        mine = lambda: [a for a in arrays if a.status[0].name == "cell/tracking"]  # noqa: E731
        observer.spin_until(lambda: len(mine()) >= 4, "four diagnostics of the tracker", process)
        stamps = [stamp_of(a) for a in mine()]
    # By the stamps that the node gives. A busy machine makes them late, so only "not more often" has a limit.
    assert (stamps[-1] - stamps[0]) / (len(stamps) - 1) > 0.6e9


def test_pipeline_stats_gather_all_nodes(observer, process) -> None:
    with observer.listen(PipelineStats, "/cell/pipeline_stats") as received:
        observer.spin_until(lambda: received and len(received[-1].nodes) == len(NODES), "all nodes", process)
        newest = received[-1]
    by_name = {node.node: node for node in newest.nodes}
    assert set(by_name) == set(NODES)
    assert stamp_of(newest) > 0
    assert plausible(by_name["inference"].output_rate)
    assert by_name["inference"].received > 0
    assert {"preprocess", "run", "postprocess", "publish"} <= {s.stage for s in by_name["inference"].stages}
    for node in newest.nodes:
        for stage in node.stages:
            assert stage.node == node.node
            assert 0 <= stage.p50_ms <= stage.p95_ms <= stage.p99_ms


def test_inside_a_process_no_frame_lies_in_shared_memory(process) -> None:
    assert SHARED_MEMORY.is_dir()
    assert process.segments() == []
    assert process.lines(r"\[(ERROR|WARN)\]|Traceback") == []


def test_a_node_without_input_says_so(observer, start) -> None:
    process = start("tracking", namespace="/lonely")
    status = observer.wait_for_status("lonely/tracking", DiagnosticStatus.WARN, process)
    observer.spin_until(
        lambda: "no input" in observer.diagnostics["lonely/tracking"].message, f"no input ({status})", process
    )
    assert observer.values("lonely/tracking")["age of newest input [s]"] == "none yet"
