"""Packaged bundles run on every backend as the plain ones, and leave nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml

from edge_vision.datatypes import Frame
from edge_vision.inference import BackendError, Engine, load_bundle
from edge_vision.inference.backends import BACKENDS, backend
from edge_vision.inference.security import (
    open_bundle,
    private,
)

pytest.importorskip("cryptography", reason="cryptography signs and encrypts: pip install cryptography")


@pytest.mark.parametrize("how", [("signed",), ("signed", "encrypted", "archive")], ids="+".join)
@pytest.mark.parametrize("name", list(BACKENDS))
def test_every_backend_runs_a_packaged_bundle_as_the_plain_one(
    make, key, plain: Path, repository: Path, name: str, how: tuple[str, ...], tmp_path: Path, monkeypatch, leftovers
) -> None:
    missing = backend(name).available()
    if missing:
        pytest.skip(f"{name}: {missing}")
    monkeypatch.setenv("EDGE_VISION_CACHE", str(tmp_path / "cache"))
    # TVM compiles for half a minute what is not so small.
    source = plain if name == "tvm" else repository / "models" / "conveyor_parts"
    if not any(variant.path.suffix in backend(name).FORMATS for variant in load_bundle(source).variants):
        pytest.skip(f"{name} reads {', '.join(backend(name).FORMATS)}: the bundled model has none")
    path = make(*how, source=source)
    image = Frame(np.random.default_rng(1).integers(0, 256, (300, 400, 3), dtype=np.uint8))
    before = leftovers()
    if name == "tvm" and "encrypted" in how:
        with open_bundle(path, key.policy()) as bundle, pytest.raises(BackendError, match="on disk"):
            Engine.load(bundle, backend=name)
        assert not (tmp_path / "cache" / "tvm").exists()
        return
    with Engine.load(load_bundle(source), backend=name, score_threshold=0.01) as engine:
        expected = engine.infer(image)
    with open_bundle(path, key.policy()) as bundle:
        engine = Engine.load(bundle, backend=name, score_threshold=0.01)
    assert leftovers() == before
    with engine:
        for _ in range(2):  # with its files gone
            found = engine.infer(image)
            assert len(found.boxes) > (0 if name == "tvm" else 20)
            np.testing.assert_array_equal(found.boxes, expected.boxes)
            np.testing.assert_array_equal(found.scores, expected.scores)
            np.testing.assert_array_equal(found.class_ids, expected.class_ids)


def test_candidates_are_measured_from_the_private_folder(make, key, tmp_path, monkeypatch):
    """The processes that try candidates read it as well, and leave nothing of an encrypted model in the cache."""
    if backend("openvino").available():
        pytest.skip(f"openvino: {backend('openvino').available()}")
    monkeypatch.setenv("EDGE_VISION_TUNING", "on")
    monkeypatch.setenv("EDGE_VISION_CACHE", str(tmp_path / "cache"))
    path = make("signed", "encrypted")
    with open_bundle(path, key.policy()) as bundle:
        engine = Engine.load(bundle, hardware="cpu", precision="fp32")
    with engine:
        assert len(engine.description.measured) >= 2, engine.description
    kept = [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]
    assert {file.parent.name for file in kept} <= {"tuning", "verification"}
    assert all(file.stat().st_size < 20_000 for file in kept)


def test_weights_in_a_file_beside_the_onnx(plain: Path, make, key) -> None:
    """ONNX Runtime resolves links before it looks for them: such bundles get files instead."""
    model = onnx.load(plain / "model.onnx")
    onnx.save(model, plain / "model.onnx", save_as_external_data=True, location="weights.dat", size_threshold=0)
    (plain / "other.onnx").unlink()
    card = yaml.safe_load((plain / "model.yaml").read_text())
    card["variants"] = card["variants"][:1]
    (plain / "model.yaml").write_text(yaml.safe_dump(card))
    path = make("signed", "encrypted")
    with open_bundle(path, key.policy()) as bundle:
        engine = Engine.load(bundle, backend="onnxruntime")
    with engine:
        assert len(engine.infer(Frame(np.zeros((64, 96, 3), np.uint8))).boxes) == 1


def test_what_changes_while_it_is_opened_does_not_matter(make, key) -> None:
    """The check and the use are of the same bytes."""
    path = make("signed")
    with open_bundle(path, key.policy()) as bundle:
        shutil.rmtree(path)
        with Engine.load(bundle, backend="onnxruntime") as engine:
            assert len(engine.infer(Frame(np.zeros((64, 96, 3), np.uint8))).boxes) == 1


_HOLD = """
import sys, time
from edge_vision.inference.security import BundlePolicy, open_bundle
with open_bundle(sys.argv[1], BundlePolicy("any", "", sys.argv[2])) as bundle:
    print(bundle.folder, flush=True)
    time.sleep({seconds})
    {then}
"""


def hold(path: Path, key, seconds: float = 60, then: str = "pass") -> tuple[subprocess.Popen, Path]:
    """A process that has the bundle open."""
    script = _HOLD.format(seconds=seconds, then=then)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script, str(path), f"file:{key.encryption}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    return process, Path(process.stdout.readline().strip())


@pytest.mark.parametrize("then", ["raise ValueError", "sys.exit(3)", "pass"])
def test_the_folder_goes_however_the_block_ends(make, key, then: str) -> None:
    process, folder = hold(make("encrypted"), key, 0, then)
    process.communicate(timeout=30)
    assert folder.name.startswith(private.PREFIX)
    assert not folder.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_removes_the_folder_and_ends_the_process(make, key, number: int) -> None:
    process, folder = hold(make("encrypted"), key)
    assert folder.is_dir()
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == -number
    assert not folder.exists()


def test_a_handler_of_the_program_stays(make, key) -> None:
    mine = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        own = signal.getsignal(signal.SIGTERM)
        with open_bundle(make(), key.policy("any")):
            assert signal.getsignal(signal.SIGTERM) is own
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with open_bundle(make(), key.policy("any")):
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, mine)


def test_a_killed_process_leaves_no_byte_of_the_model_and_the_next_one_tidies(make, key, monkeypatch) -> None:
    path = make("encrypted")
    process, folder = hold(path, key)
    monkeypatch.setattr(private, "memory_folders", lambda: (folder.parent,))
    assert b"bolt" in (folder / "model.yaml").read_bytes()
    with open_bundle(path, key.policy("any")):  # somebody else's that is in use stays
        assert folder.is_dir()
    process.kill()
    process.communicate(timeout=30)
    left = [place for place in folder.rglob("*") if not place.is_dir()]
    assert left
    assert not any(place.exists() for place in left)  # links to what went with the process
    os.utime(folder, (time.time() - 3600,) * 2)
    with open_bundle(path, key.policy("any")):
        assert not folder.exists()


def test_a_folder_in_use_is_not_tidied(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(private, "memory_folders", lambda: (tmp_path,))
    with private.PrivateFolder() as used:
        os.utime(used.path, (time.time() - 3600,) * 2)
        with private.PrivateFolder() as second:
            assert second.path.is_dir()
            assert used.path.is_dir()
    assert not list(tmp_path.glob(f"{private.PREFIX}*"))
    monkeypatch.setattr(private, "memory_folders", lambda: (tmp_path / "nowhere",))
    with pytest.raises(BackendError, match="no folder in memory"):
        private.PrivateFolder()


def test_where_there_is_no_anonymous_memory_files_do(make, key, monkeypatch, leftovers) -> None:
    monkeypatch.delattr(os, "memfd_create")
    with open_bundle(make("signed", "encrypted"), key.policy()) as bundle:
        assert not bundle.variants[0].path.is_symlink()
        assert bundle.variants[0].path.stat().st_mode & 0o777 == 0o400
        with Engine.load(bundle, backend="onnxruntime") as engine:
            assert len(engine.infer(Frame(np.zeros((64, 96, 3), np.uint8))).boxes) == 1
    assert not leftovers()


def test_no_room_in_memory_is_told(make, key, refused, monkeypatch) -> None:
    path = make("signed", "encrypted")

    def full(name: str, flags: int) -> int:
        return os.open("/dev/full", os.O_RDWR)

    monkeypatch.setattr(os, "memfd_create", full)
    assert "cannot be unpacked to memory: No space left" in refused(path, key.policy(), BackendError)
