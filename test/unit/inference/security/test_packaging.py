"""Packaging: whole or not there."""

from __future__ import annotations

import fcntl
import itertools
import os
from dataclasses import replace
from pathlib import Path

import pytest

from edge_vision.inference import InferenceError, ModelError, load_bundle
from edge_vision.inference.security import (
    KeyProblem,
    container,
    inspect,
    open_bundle,
    package,
    private,
    read_encryption_key,
)

pytest.importorskip("cryptography", reason="cryptography signs and encrypts: pip install cryptography")


def test_packaging_writes_all_or_nothing(make, plain: Path, key, tmp_path: Path, monkeypatch) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(ModelError, match="there already"):
        package(plain, out)
    with pytest.raises(ModelError, match="for archives"):
        package(plain, tmp_path / "a.evb")
    (plain / "model.onnx").chmod(0o600)
    for break_at in range(6):
        count = itertools.count()

        def encrypt(*arguments, break_at=break_at, count=count):
            if next(count) == break_at:
                raise KeyboardInterrupt
            return container.encrypt(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr("edge_vision.inference.security.packaging.container.encrypt", encrypt, raising=True)
            patch.setattr(
                "edge_vision.inference.security.packaging.container",
                type("container", (), {"encrypt": staticmethod(encrypt), "ID_BYTES": 16}),
            )
            try:
                package(plain, out / "new", encryption=read_encryption_key(f"file:{key.encryption}"), archive=True)
            except KeyboardInterrupt:
                assert not list(out.iterdir())
            else:
                assert break_at >= 4  # files
                assert [file.name for file in out.iterdir()] == ["new.evb"]
                (out / "new.evb").unlink()


def test_a_file_by_itself_is_packaged_with_a_card(make, plain: Path, key) -> None:
    path = make("signed", source=plain / "model.onnx")
    with open_bundle(path, key.policy()) as bundle:
        assert (bundle.name, bundle.decoder) == ("model", "yolox")
        assert bundle.variants[0].sha256


def test_packaging_a_packaged_bundle_unpacks_it_first(make, plain: Path, key, tmp_path: Path, flip) -> None:
    path = make("signed", "encrypted", "archive")
    out, made = package(path, tmp_path / "again", policy=key.policy())
    assert not made.signed_by
    assert not made.encrypted
    names = {file.relative_to(plain).as_posix() for file in plain.rglob("*") if file.is_file()}
    assert {file.relative_to(out).as_posix() for file in out.rglob("*") if file.is_file()} == names | {"seal.json"}
    for name in names:
        assert (out / name).read_bytes() == (plain / name).read_bytes()
    flip(path, 300)
    with pytest.raises(InferenceError):
        package(path, tmp_path / "bad", policy=key.policy())
    assert not (tmp_path / "bad").exists()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("absolute", [True, False])
def test_files_that_lie_elsewhere_are_not_packaged(plain: Path, tmp_path: Path, absolute: bool) -> None:
    """They would be opened without having been proven."""
    card = plain / "model.yaml"
    own = card.read_text()
    (plain / "other.onnx").rename(tmp_path / "other.onnx")
    (tmp_path / "names.txt").write_text("nut\nbolt\n")
    place = tmp_path if absolute else Path("..")
    card.write_text(own.replace("file: other.onnx", f"file: {place}/other.onnx"))
    assert load_bundle(plain).variants[1].path.is_file()
    with pytest.raises(ModelError, match=r"variants\.1\.file: names .*other\.onnx, which is not in the bundle"):
        package(plain, tmp_path / "out")
    labels = own[own.index("labels:") : own.index("name:")]
    card.write_text(own.replace(labels, f"labels: {place}/names.txt\n").replace("other.onnx", "model.onnx"))
    assert load_bundle(plain).labels == ("nut", "bolt")
    with pytest.raises(ModelError, match=r"labels: names .*names\.txt, which is not in the bundle"):
        package(plain, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_packagings_at_once_do_not_mix(plain: Path, tmp_path: Path, monkeypatch) -> None:
    """What comes to the place while one is at work stays."""
    from edge_vision.inference.security import packaging

    for archive in (False, True):
        out = tmp_path / ("late.evb" if archive else "late")
        real = packaging._name_it

        def late(made: Path, to: Path, real=real) -> None:
            if to.suffix:
                to.write_text("theirs")
            else:
                to.mkdir()
                (to / "theirs").touch()
            real(made, to)

        with monkeypatch.context() as patch:
            patch.setattr(packaging, "_name_it", late)
            with pytest.raises((ModelError, OSError)):
                package(plain, out, archive=archive)
        assert out.read_text() == "theirs" if archive else [file.name for file in out.iterdir()] == ["theirs"]
    assert not list(tmp_path.glob(".late*"))


def test_inspecting_tells_what_is_known(make, key, plain: Path, flip) -> None:
    path = make("signed", "encrypted")
    found = inspect(path, key.policy())
    assert found.signed_by
    assert str(found) == f"signed by {found.signed_by[0]}, encrypted"
    assert inspect(path).claimed == found.signed_by  # nobody trusted, no key: hashes alone
    with pytest.raises(KeyProblem, match="another key"):
        inspect(path, replace(key.policy(), key=f"file:{key.other_encryption}"))
    with pytest.raises(ModelError, match="no packaged bundle"):
        inspect(plain)
    flip(path / "other.onnx.enc", 200)
    with pytest.raises(ModelError, match="was changed"):
        inspect(path)


def test_folders_are_locked_while_they_live(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(private, "memory_folders", lambda: (tmp_path,))
    with private.PrivateFolder() as folder:
        descriptor = os.open(folder.path, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)
