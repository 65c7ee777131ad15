"""PyTorch: each kind of file that it opens, written here by torch itself (no dependency: these skip without it)."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_vision.inference.backends import SessionOptions, missing_package, torch_
from edge_vision.inference.errors import BackendError, ModelError

IMAGE = (1, 3, 16, 24)
OPTIONS = SessionOptions(input_shapes={"x": IMAGE})


def test_without_torch_the_reason_and_the_remedy(tmp_path: Path) -> None:
    if missing_package("torch") is None:
        pytest.skip("torch is installed here")
    assert torch_.available() == "the Python package torch is not installed"
    with pytest.raises(BackendError, match=r"(?i:pip install torch)"):
        torch_.open(tmp_path / "model.pt2", SessionOptions())


@pytest.fixture(scope="module")
def torch() -> Any:
    if missing_package("torch") is not None:
        pytest.skip("torch is not installed: it is no dependency, by its size")
    return importlib.import_module("torch")


@pytest.fixture(scope="module")
def network(torch: Any) -> Any:
    torch.manual_seed(0)

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = torch.nn.Conv2d(3, 4, 3, padding=1)

        def forward(self, x: Any) -> Any:
            features = torch.relu(self.convolution(x))
            return features, features.mean((2, 3))

    return Network().eval()


def _check(torch: Any, network: Any, path: Path, tolerance: float = 0.0) -> None:
    session = torch_.open(path, OPTIONS)
    assert [spec.shape for spec in session.inputs] == [IMAGE]
    assert [spec.shape for spec in session.outputs] == [(1, 4, 16, 24), (1, 4)]
    for seed in range(2):
        tensor = np.random.default_rng(seed).normal(size=IMAGE).astype(np.float32)
        with torch.no_grad():
            expected = network(torch.from_numpy(tensor))
        for found, wanted in zip(session.run([tensor]), expected, strict=True):
            np.testing.assert_allclose(found, wanted.numpy(), atol=tolerance or 1e-6)
    swapped = torch_.open(path, SessionOptions(input_shapes={"x": IMAGE}, outputs=(session.outputs[1].name,)))
    assert [array.shape for array in swapped.run([tensor])] == [(1, 4)]
    session.close()
    with pytest.raises(BackendError, match="closed"):
        session.run([tensor])


@pytest.mark.filterwarnings("ignore")
def test_an_exported_program(torch: Any, network: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    torch.export.save(torch.export.export(network, (torch.zeros(IMAGE),)), path)
    _check(torch, network, path)


@pytest.mark.filterwarnings("ignore")
def test_a_scripted_one(torch: Any, network: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.torchscript"
    torch.jit.trace(network, torch.zeros(IMAGE)).save(path)
    _check(torch, network, path, 1e-5)


@pytest.mark.filterwarnings("ignore")
def test_one_for_executorch(torch: Any, network: Any, tmp_path: Path) -> None:
    if missing_package("executorch") is not None:
        pytest.skip("executorch is not installed")
    exir = pytest.importorskip("executorch.exir")
    path = tmp_path / "model.pte"
    program = torch.export.export(network, (torch.zeros(IMAGE),))
    path.write_bytes(exir.to_edge_transform_and_lower(program).to_executorch().buffer)
    _check(torch, network, path, 1e-5)


def test_a_checkpoint_of_training_is_refused_unread(torch: Any, network: Any, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt2"
    torch.save(network.state_dict(), path)
    with pytest.raises(ModelError, match=r"no exported program.*torch.export.save"):
        torch_.open(path, SessionOptions())


def test_a_file_that_is_none_is_a_model_error(torch: Any, tmp_path: Path) -> None:
    for name in ("model.pt2", "model.torchscript"):
        (tmp_path / name).write_bytes(b"not a model at all")
        with pytest.raises(ModelError, match=r"no file of torch\.export"):
            torch_.open(tmp_path / name, SessionOptions())
    with pytest.raises(BackendError, match="torch runs on cpu"):
        torch_.open(tmp_path / "model.pt2", SessionOptions("cuda"))
