"""`edge_vision package`, as a user calls it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_vision.cli.main import main
from edge_vision.inference.security import BundlePolicy, open_bundle

pytest.importorskip("cryptography", reason="cryptography signs and encrypts: pip install cryptography")


@pytest.fixture
def bundle(repository: Path, tmp_path: Path) -> Path:
    """The bundled model."""
    return Path(shutil.copytree(repository / "models" / "conveyor_parts", tmp_path / "parts"))


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A folder with robot.key, robot.key.pub and model.key, made by the command."""
    folder = tmp_path / "keys"
    folder.mkdir()
    assert main(["package", "--new-signing-key", str(folder / "robot.key")]) == 0
    assert main(["package", "--new-encryption-key", str(folder / "model.key")]) == 0
    return folder


def test_from_keys_to_a_verified_archive_and_back(bundle: Path, keys: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "sealed"
    sign, encrypt = str(keys / "robot.key"), f"file:{keys / 'model.key'}"
    capsys.readouterr()
    assert main(["package", str(bundle), "-o", str(out), "--sign", sign, "--encrypt", encrypt, "--archive"]) == 0
    archive = tmp_path / "sealed.evb"
    assert f"{archive}: conveyor_parts, 9 files" in capsys.readouterr().out
    with open_bundle(archive, BundlePolicy("signed", str(keys), encrypt)) as opened:
        assert len(opened.variants) == 5

    assert main(["package", "--verify", str(archive), "--trust", str(keys / "robot.key.pub"), "--key", encrypt]) == 0
    told = capsys.readouterr()
    assert "whole; signed by " in told.out
    assert "encrypted" in told.out
    assert not told.err
    assert main(["package", "--verify", str(archive)]) == 0
    told = capsys.readouterr()
    assert "not checked" in told.out
    assert "--trust" in told.err
    assert "--key" in told.err

    plain = tmp_path / "plain"
    again = ["package", str(archive), "-o", str(plain), "--key", str(keys / "model.key"), "--trust", str(keys)]
    assert main(again) == 0
    for file in bundle.iterdir():
        assert (plain / file.name).read_bytes() == file.read_bytes()
    assert main(again) == 1
    assert "there already" in capsys.readouterr().err


def test_a_tampered_bundle_fails(bundle: Path, keys: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "sealed"
    assert main(["package", str(bundle), "-o", str(out), "--sign", str(keys / "robot.key")]) == 0
    with (out / "model.onnx").open("r+b") as stream:
        stream.seek(5000)
        stream.write(b"\xff\x00\xff")
    capsys.readouterr()
    for command in (["--verify", str(out)], [str(out), "-o", str(tmp_path / "again"), "--trust", str(keys)]):
        assert main(["package", *command]) == 1
        told = capsys.readouterr()
        assert "model.onnx: was changed or cut off after it was packaged" in told.err
        assert not told.out
    assert not (tmp_path / "again").exists()


def test_wrong_keys_fail_and_show_nothing(bundle: Path, keys: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    out = tmp_path / "sealed"
    secret = (keys / "model.key").read_text().strip()
    monkeypatch.setenv("MODEL_KEY", secret)
    assert (
        main(["package", str(bundle), "-o", str(out), "--sign", str(keys / "robot.key"), "--encrypt", "env:MODEL_KEY"])
        == 0
    )
    for name in ("other.key", "model2.key"):
        option = "--new-signing-key" if name == "other.key" else "--new-encryption-key"
        assert main(["package", option, str(tmp_path / name)]) == 0
    capsys.readouterr()
    for options, said in (
        (["--trust", str(tmp_path / "other.key.pub")], "whom nobody here trusts"),
        (["--key", str(tmp_path / "model2.key")], "encrypted with another key"),
        (["--key", secret], "cannot be read"),
        (["--key", f"command:echo {secret}x"], "holds no key"),
        (["--trust", str(tmp_path / "nowhere")], "cannot be read"),
    ):
        assert main(["package", "--verify", str(out), *options]) == 1
        told = capsys.readouterr()
        assert said in told.err
        assert secret not in told.err + told.out
    made = tmp_path / "made"
    assert main(["package", str(bundle), "-o", str(made), "--encrypt", secret]) == 1
    assert secret not in capsys.readouterr().err
    assert main(["package", str(bundle), "-o", str(made), "--sign", str(keys / "model.key")]) == 1
    assert "no private key in PEM" in capsys.readouterr().err
    assert not made.exists()


def test_a_key_that_others_can_read_is_warned_of(bundle: Path, keys: Path, tmp_path: Path, capsys) -> None:
    (keys / "model.key").chmod(0o644)
    assert main(["package", str(bundle), "-o", str(tmp_path / "out"), "--encrypt", str(keys / "model.key")]) == 0
    assert "warning: the bundle key's file" in capsys.readouterr().err


def test_keys_are_not_overwritten(keys: Path, capsys) -> None:
    before = {file.name: file.read_bytes() for file in keys.iterdir()}
    assert main(["package", "--new-signing-key", str(keys / "robot.key")]) == 1
    assert main(["package", "--new-encryption-key", str(keys / "model.key")]) == 1
    assert capsys.readouterr().err.count("there already") == 2
    assert {file.name: file.read_bytes() for file in keys.iterdir()} == before
    assert {file.name: file.stat().st_mode & 0o777 for file in keys.iterdir()} == {
        "robot.key": 0o600,
        "robot.key.pub": 0o644,
        "model.key": 0o600,
    }


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["conveyor_parts"],
        ["--verify"],
        ["-o", "x"],
        ["conveyor_parts", "--verify", "-o", "x"],
        ["conveyor_parts", "--verify", "--archive"],
        ["conveyor_parts", "--new-encryption-key", "x"],
    ],
)
def test_what_makes_no_sense_is_told(arguments: list[str], tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["package", *arguments]) == 2
    assert "edge_vision package: " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing_half_written(bundle: Path, keys: Path, tmp_path: Path, number: int) -> None:
    """While the files are written: a bundle large enough for that to take a while."""
    with (bundle / "large.bin").open("wb") as stream:
        stream.truncate(1 << 30)
    out = tmp_path / "out"
    out.mkdir()
    code = "import sys; from edge_vision.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "package", str(bundle), "-o", str(out / "sealed")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [*command, "--encrypt", str(keys / "model.key")], stderr=subprocess.PIPE, text=True, env=environment
    )
    begun = time.monotonic()
    while not any(out.rglob("*.enc")):
        assert process.poll() is None
        assert time.monotonic() - begun < 60
        time.sleep(0.005)
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in told
    assert not list(out.iterdir())
