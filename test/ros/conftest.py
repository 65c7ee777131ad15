"""Real nodes over real DDS, each pytest process in a domain of its own, nothing left behind."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

# Before anything makes a DDS participant: a domain that nobody on this machine is in.
_PORTS_A_DOMAIN, _FIRST_PORT, _DOMAINS = 250, 7400, 100  # DDSI-RTPS 2.5, 9.6.2.3; 100 stays below the ephemeral ports


def _free_domain() -> int:
    """1 .. 100, beginning with one that hangs on the process id; the first in which no UDP port is taken."""
    taken = set()
    for table in ("/proc/net/udp", "/proc/net/udp6"):
        if Path(table).is_file():
            rows = Path(table).read_text().splitlines()[1:]
            taken |= {(int(row.split()[1].rsplit(":", 1)[1], 16) - _FIRST_PORT) // _PORTS_A_DOMAIN for row in rows}
    candidates = [1 + (os.getpid() + offset) % _DOMAINS for offset in range(_DOMAINS)]
    return next((domain for domain in candidates if domain not in taken), candidates[0])


def _missing() -> str | None:
    for module in ("rclpy", "vision_msgs.msg", "edge_vision.msg"):
        try:
            importlib.import_module(module)
        except ImportError as error:
            return f"no ROS environment ({error}): run scripts/setup.sh, then . scripts/env.sh"
    return None


os.environ["ROS_DOMAIN_ID"] = str(_free_domain())
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ.pop("ROS_LOCALHOST_ONLY", None)
MISSING = _missing()


class Skipped(pytest.Module):
    """A test module that cannot even be imported here."""

    def collect(self) -> list:
        pytest.skip(MISSING or "", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    return Skipped.from_parent(parent, path=module_path) if MISSING else None


if not MISSING:
    sys.path.insert(0, str(Path(__file__).parent))
    from ros_harness import COLOURS, Observer, Process, Start, segments_of, square


@pytest.fixture(scope="session", autouse=True)
def nothing_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """At the end no process of ours runs and no frame of theirs lies in shared memory."""
    os.environ["ROS_LOG_DIR"] = str(tmp_path_factory.mktemp("ros_log"))
    os.environ["ROS_HOME"] = str(tmp_path_factory.mktemp("ros_home"))  # where this machine's calibrations are not
    yield
    left = list(Process.running)
    for process in left:
        process.kill()
    assert not left, f"still running at the end: {[process.command for process in left]}"
    segments = [name for pid in Process.pids for name in segments_of(pid)]
    assert not segments, f"left in shared memory: {segments}"


@pytest.fixture(scope="module")
def observer() -> Iterator[Observer]:
    observer = Observer()
    yield observer
    observer.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts executables that end with the test."""
    start = Start(tmp_path)
    yield start
    start.stop_all()


@pytest.fixture(scope="module")
def start_shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts executables that end with the test module."""
    start = Start(tmp_path_factory.mktemp("shared"))
    yield start
    start.stop_all()


# --- models ----------------------------------------------------------------------------------------------------------


def _brightest_box(path: Path, width: int = 128, height: int = 96, labels: tuple[str, ...] = ("blue", "green", "red")):
    """Writes a detector in YOLOX layout that finds, exactly, the one bright rectangle of an image and its colour.

    Row 0 of the output is the bounding box of all pixels with a channel above 128, the share of each channel in them is
    the score of the class; the other rows are empty. So what it finds depends on every pixel that it is given.
    """
    onnx = pytest.importorskip("onnx", reason="onnx writes the test models: scripts/setup.sh --with-tests")
    from onnx import TensorProto, helper, numpy_helper

    cells = [
        (stride, x, y)
        for stride in (8, 16, 32)
        for y in range(-(-height // stride))
        for x in range(-(-width // stride))
    ]
    empty = [[(x + 0.5) * stride, (y + 0.5) * stride, stride, stride, 0, 0, 0, 0] for stride, x, y in cells]
    ramp_x, ramp_y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    tables = {
        "limit": np.float32(128),
        "half": np.float32(0.5),
        "tiny": np.float32(1e-6),
        "full": np.float32(255),
        "x_end": ramp_x + 1,
        "x_start": width - ramp_x,
        "y_end": ramp_y + 1,
        "y_start": height - ramp_y,
        "width": np.float32(width),
        "height": np.float32(height),
        "empty": np.array([empty[1:]], np.float32),
        "space": np.array([0, 2, 3], np.int64),
        "one": np.array([1], np.int64),
        "row": np.array([1, 1, 8], np.int64),
    }

    def extent(axis: str, reduced: list[int]) -> list:
        size = "width" if axis == "x" else "height"
        return [
            helper.make_node("ReduceMax", ["mask"], [f"{axis}_mask"], axes=reduced, keepdims=0),
            helper.make_node("Mul", [f"{axis}_mask", f"{axis}_end"], [f"{axis}_ends"]),
            helper.make_node("ReduceMax", [f"{axis}_ends"], [f"{axis}2"], keepdims=0),
            helper.make_node("Mul", [f"{axis}_mask", f"{axis}_start"], [f"{axis}_starts"]),
            helper.make_node("ReduceMax", [f"{axis}_starts"], [f"{axis}_left"], keepdims=0),
            helper.make_node("Sub", [size, f"{axis}_left"], [f"{axis}1"]),
            helper.make_node("Sub", [f"{axis}2", f"{axis}1"], [f"{axis}_size"]),
            helper.make_node("Add", [f"{axis}1", f"{axis}2"], [f"{axis}_sum"]),
            helper.make_node("Mul", [f"{axis}_sum", "half"], [f"{axis}_centre"]),
        ]

    columns = ["x_centre", "y_centre", "x_size", "y_size", "objectness"]
    nodes = [
        helper.make_node("ReduceMax", ["images"], ["brightest"], axes=[1], keepdims=1),
        helper.make_node("Greater", ["brightest", "limit"], ["bright"]),
        helper.make_node("Cast", ["bright"], ["mask"], to=TensorProto.FLOAT),
        *extent("x", [0, 1, 2]),
        *extent("y", [0, 1, 3]),
        helper.make_node("ReduceMax", ["mask"], ["objectness"], keepdims=0),
        helper.make_node("Mul", ["images", "mask"], ["lit"]),
        helper.make_node("ReduceSum", ["lit", "space"], ["light"], keepdims=0),
        helper.make_node("ReduceSum", ["mask"], ["area"], keepdims=0),
        helper.make_node("Mul", ["area", "full"], ["most"]),
        helper.make_node("Add", ["most", "tiny"], ["most_light"]),
        helper.make_node("Div", ["light", "most_light"], ["classes"]),
        *[helper.make_node("Reshape", [name, "one"], [f"{name}_1"]) for name in columns],
        helper.make_node("Concat", [*(f"{name}_1" for name in columns), "classes"], ["found"], axis=0),
        helper.make_node("Reshape", ["found", "row"], ["first"]),
        helper.make_node("Concat", ["first", "empty"], ["output"], axis=1),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "brightest_box",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, height, width])],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, len(empty), 8])],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in tables.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    helper.set_model_props(model, {"names": str(dict(enumerate(labels)))})
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test detector: finds the bright rectangle of an image; classes blue, green, red."""
    return _brightest_box(tmp_path_factory.mktemp("models") / "brightest.onnx")


@pytest.fixture(scope="session")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another one, for switching: other input size, other labels."""
    folder = tmp_path_factory.mktemp("models")
    return _brightest_box(folder / "other.onnx", 192, 160, ("azure", "lime", "crimson"))


@pytest.fixture(scope="session")
def bad_models(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """text: prose named .onnx; missing: no such file; misfit: a sound model whose outputs fit no decoder."""
    onnx = pytest.importorskip("onnx", reason="onnx writes the test models: scripts/setup.sh --with-tests")
    from onnx import TensorProto, helper

    folder = tmp_path_factory.mktemp("bad_models")
    (folder / "text.onnx").write_text("This is a letter to my aunt, not a neural network.\n" * 20)
    graph = helper.make_graph(
        [helper.make_node("GlobalAveragePool", ["images"], ["embedding"])],
        "embedding",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, 3, 1, 1])],
    )
    sound = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(sound, folder / "misfit.onnx")
    return SimpleNamespace(text=folder / "text.onnx", missing=folder / "missing.onnx", misfit=folder / "misfit.onnx")


# --- sources ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def square_box() -> Callable[[int], tuple[int, int, int, int] | None]:
    """Where the square of frame `index` of `square_images` is: none in the first four of each 20, then moving right."""

    def box(index: int) -> tuple[int, int, int, int] | None:
        index %= 20
        return None if index < 4 else (8 * index, 60, 8 * index + 40, 100)

    return box


@pytest.fixture(scope="session")
def square_images(tmp_path_factory: pytest.TempPathFactory, square_box: Callable) -> Path:
    """A folder of 40 images (256 x 192): a blue square that moves 8 px an image to the right, in 16 of every 20."""
    cv2 = pytest.importorskip("cv2")
    folder = tmp_path_factory.mktemp("images")
    for index in range(40):
        cv2.imwrite(str(folder / f"{index:03}.png"), square(square_box(index)))
    assert len(COLOURS) == 3
    return folder
