"""What every test shares: where the real data lies, when it is there."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parents[1]

# A machine that is busy elsewhere is no finding: no test has a deadline.
settings.register_profile("edge_vision", deadline=None)
settings.load_profile("edge_vision")

# A shell's background job has interrupts ignored, and what tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def find_shared_data() -> Path | None:
    """The folder of real images, videos and models, or None: it is not part of the repository."""
    named = os.environ.get("EDGE_VISION_SHARED_DATA")
    candidates = [Path(named)] if named else [REPOSITORY.parent / "shared" / "data"]
    return next((path for path in candidates if (path / "README.md").is_file()), None)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    path = find_shared_data()
    if path is None:
        pytest.skip("real data not found: set EDGE_VISION_SHARED_DATA or put it at ../shared/data")
    return path


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(autouse=True, scope="session")
def no_tuning() -> Iterator[None]:
    """Candidates are measured only by the tests of that: what the others run on is the same at every run."""
    before = os.environ.get("EDGE_VISION_TUNING")
    os.environ["EDGE_VISION_TUNING"] = "off"
    yield
    if before is None:
        del os.environ["EDGE_VISION_TUNING"]
    else:
        os.environ["EDGE_VISION_TUNING"] = before


@pytest.fixture(scope="session")
def write_embedding_model() -> Callable[..., Path]:
    """A function that writes a small re-identification network, colours over a grid, as ONNX.

    A 1 x 1 convolution and a softmax over channels give every pixel to the nearest of 27 colours (the distance to each
    is linear in the pixel, but for what they have in common); the mean over each cell of a grid is the embedding.
    """
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def write(
        path: Path, *, batch: int | str = "batch", width: int = 32, height: int = 64, squeeze: bool = True
    ) -> Path:
        levels = np.linspace(0, 1, 3)
        colours = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
        sharp = 30.0
        weights = (2 * sharp * colours / 255).astype(np.float32)[:, :, None, None]
        bias = (-sharp * (colours**2).sum(1)).astype(np.float32)
        cells = [height // 2, width // 2]
        nodes = [
            helper.make_node("Conv", ["images", "weights", "bias"], ["nearness"], kernel_shape=[1, 1]),
            helper.make_node("Softmax", ["nearness"], ["colours"], axis=1),
            helper.make_node("AveragePool", ["colours"], ["grid"], kernel_shape=cells, strides=cells),
            helper.make_node("Reshape", ["grid", "shape"], ["features"]),
        ]
        shape = [-1 if isinstance(batch, str) else batch, len(colours) * 4] + [1, 1] * (not squeeze)
        tables = [("weights", weights), ("bias", bias), ("shape", np.array(shape, np.int64))]
        sizes = [batch, *shape[1:]]
        graph = helper.make_graph(
            nodes,
            "colour_grid",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, height, width])],
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, sizes)],
            [numpy_helper.from_array(array, name) for name, array in tables],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model, path)
        return path

    return write
