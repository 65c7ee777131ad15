"""Packaged bundles: what was changed in any way is refused, what is whole is as it was."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_vision.inference import InferenceError, ModelError, load_bundle
from edge_vision.inference.security import (
    BundlePolicy,
    KeyProblem,
    open_bundle,
    package,
    private,
    read_signing_key,
    seal,
)

pytest.importorskip("cryptography", reason="cryptography signs and encrypts: pip install cryptography")


HOWS = [
    ("signed",),
    ("encrypted",),
    ("signed", "encrypted"),
    ("signed", "archive"),
    ("signed", "encrypted", "archive"),
    (),
]


@pytest.mark.parametrize("how", HOWS, ids="+".join)
def test_a_packaged_bundle_is_what_it_was(make, plain: Path, key, how: tuple[str, ...], leftovers) -> None:
    path = make(*how)
    own = load_bundle(plain)
    before = leftovers()
    with open_bundle(path, key.policy("signed" if "signed" in how else "any")) as bundle:
        assert leftovers() != before
        assert replace(bundle, folder=own.folder, file=own.file, variants=own.variants, seal="", scratch=None) == own
        for mine, theirs in zip(own.variants, bundle.variants, strict=True):
            assert theirs.path.read_bytes() == mine.path.read_bytes()
            with pytest.raises(PermissionError), theirs.path.open("r+b", buffering=0) as stream:
                stream.write(b"x")  # sealed: not even this process, nor root, changes it
        assert bundle.folder.stat().st_mode & 0o777 == 0o700
        assert (bundle.folder / "notes" / "README.md").read_text() == "how it was trained\n"
        assert ("signed by" in bundle.seal, "encrypted" in bundle.seal) == ("signed" in how, "encrypted" in how)
    assert leftovers() == before


def test_nothing_readable_is_left_in_an_encrypted_bundle(make, plain: Path) -> None:
    whole = b"".join(file.read_bytes() for file in make("encrypted").rglob("*") if file.is_file())
    for secret in (b"bolt", b"how it was", (plain / "model.onnx").read_bytes()[200:240]):
        assert secret in b"".join(file.read_bytes() for file in plain.rglob("*") if file.is_file())
        assert secret not in whole


@pytest.mark.parametrize("how", [("signed",), ("signed", "encrypted"), ("encrypted",), ()], ids="+".join)
def test_one_bit_changed_anywhere_is_refused(make, key, how: tuple[str, ...], flip, refused) -> None:
    """In each file, at its begin, in its middle and at its end."""
    path = make(*how)
    policy = key.policy("signed" if "signed" in how else "any")
    files = sorted(file for file in path.rglob("*") if file.is_file())
    assert len(files) == 5 + ("signed" in how)
    for file in files:
        whole = file.read_bytes()
        for index in {0, len(whole) // 3, len(whole) // 2, len(whole) - 2}:
            flip(file, index)
            if file.name == "seal.json" and not how:  # only a damaged copy shows there, and a name may change
                with pytest.raises(InferenceError):
                    load_bundle(path)
            else:
                message = refused(path, policy, InferenceError)
                assert str(path) in message
                assert private.PREFIX not in message
            file.write_bytes(whole)
    with open_bundle(path, policy) as bundle:
        assert bundle.name == "parts"


def test_every_bit_of_seal_and_signature_counts(make, key, flip, refused) -> None:
    path = make("signed")
    for file in (path / "seal.json", path / "seal.sig"):
        whole = file.read_bytes()
        last = len(whole) - 5  # of the signature's last characters, base64 leaves bits open
        places = [(index, index % 8) for index in range(0, last, 5)]
        for index, bit in places + [(index, bit) for index in range(last, len(whole)) for bit in range(8)]:
            flip(file, index, bit)
            refused(path, key.policy())
            file.write_bytes(whole)


@pytest.mark.parametrize("how", [("signed",), ("signed", "encrypted"), ("encrypted",)], ids="+".join)
def test_truncated_dropped_added_and_swapped_files_are_refused(make, key, how: tuple[str, ...], refused) -> None:
    path = make(*how)
    policy = key.policy("signed" if "signed" in how else "any")
    suffix = ".enc" if "encrypted" in how else ""
    model, other = path / f"model.onnx{suffix}", path / f"other.onnx{suffix}"
    whole, second = model.read_bytes(), other.read_bytes()
    assert whole != second
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        model.write_bytes(whole[:length])
        assert "changed or cut off" in refused(path, policy)
    model.write_bytes(whole + b"\0")
    assert "changed or cut off" in refused(path, policy)
    model.unlink()
    assert f"model.onnx{suffix} is missing" in refused(path, policy)
    model.write_bytes(second)
    other.write_bytes(whole)
    assert "changed or cut off" in refused(path, policy)
    model.write_bytes(whole)
    other.write_bytes(second)
    (path / "model.bin").write_bytes(b"weights that nobody signed")
    assert "model.bin was added" in refused(path, policy)
    (path / "model.bin").unlink()
    os.mkfifo(path / "pipe")
    assert "pipe was added" in refused(path, policy)
    (path / "pipe").unlink()
    model.unlink()
    os.mkfifo(model)  # reading it would wait for ever
    assert "is no file" in refused(path, policy)


def test_files_that_the_key_holder_did_not_put_together_do_not_decrypt(make, key, refused, write_seal) -> None:
    """Without a signature anyone can write a seal that fits; the encryption itself refuses what was moved."""
    path, again = make("encrypted"), make("encrypted")
    model, other = path / "model.onnx.enc", path / "other.onnx.enc"
    whole, second = model.read_bytes(), other.read_bytes()

    def message() -> str:
        write_seal(path)
        return refused(path, key.policy("any"))

    model.write_bytes(second)
    other.write_bytes(whole)
    assert "cannot be decrypted" in message()  # of another name
    other.write_bytes(second)
    model.write_bytes((again / model.name).read_bytes())
    assert "of another packaging" in message()
    model.write_bytes(whole[:-1])
    assert "cannot be decrypted" in message()
    model.write_bytes(whole)
    write_seal(path)
    with open_bundle(path, key.policy("any")) as bundle:
        assert bundle.name == "parts"


def test_a_seal_that_was_written_anew_is_not_signed(make, key, refused, write_seal) -> None:
    path = make("signed")
    (path / "model.yaml").write_text((path / "model.yaml").read_text().replace("bolt", "belt"))
    write_seal(path)
    assert "is not of this seal.json" in refused(path, key.policy())
    assert "is not of this seal.json" in refused(path, key.policy("any"))  # who is trusted did not sign that
    (path / "seal.sig").unlink()
    assert "is not signed" in refused(path, key.policy())


def test_another_bundles_seal_does_not_fit(make, plain: Path, key, refused) -> None:
    first = make("signed")
    card = plain / "model.yaml"
    card.write_text(card.read_text().replace("name: parts", "name: rusty"))
    second = make("signed")
    for name in ("seal.json", "seal.sig"):
        shutil.copyfile(second / name, first / name)
    assert "changed or cut off" in refused(first, key.policy())


def test_the_seal_names_the_bundle(make, key, refused, write_seal) -> None:
    path = make()
    write_seal(path, name="another")
    assert "is the seal of another" in refused(path, key.policy("any"))


@pytest.mark.parametrize(
    "place", ["../outside", "/etc/passwd", "a//b", "a/./b", ".hidden", "seal.sig", "a\\b", "a\nb", "", "model.onnx/x"]
)
def test_paths_that_leave_the_bundle_are_refused(make, key, place: str, refused) -> None:
    path = make()
    content = json.loads((path / "seal.json").read_text())
    files = [*content["files"], {"path": place, "size": 0, "sha256": "0" * 64}]
    write_seal_raw = {**content, "files": sorted(files, key=lambda entry: entry["path"])}
    text = json.dumps(write_seal_raw, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"
    (path / "seal.json").write_text(text)
    assert "is no seal of a bundle" in refused(path, key.policy("any"))


@settings(max_examples=100)
@given(st.one_of(st.binary(max_size=300), st.text(max_size=200).map(str.encode), st.just(b"[" * 5000)))
def test_any_bytes_are_no_seal(content: bytes) -> None:
    with pytest.raises(ModelError):
        seal.parse_manifest(content, Path("seal.json"))
    with pytest.raises(ModelError):
        seal.check_signatures(b"", content, {}, Path("seal.sig"))


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=100)
@given(st.sampled_from(["format", "name", "bundle_format", "files", "encryption_id", "files.0", "files.0.size"]), _json)
def test_any_value_of_a_seal_is_right_or_refused(where: str, value: object) -> None:
    file = {"path": "model.yaml", "size": 3, "sha256": "0" * 64}
    content: dict = {"format": 1, "name": "a", "bundle_format": 1, "encryption_id": "", "files": [file]}
    first, *rest = where.split(".")
    if rest == ["0"]:
        content["files"][0] = value
    elif rest:
        file["size"] = value
    else:
        content[first] = value
    text = (json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n").encode(
        "utf-8", "surrogatepass"
    )
    try:
        manifest = seal.parse_manifest(text, Path("seal.json"))
    except ModelError:
        return
    assert manifest.content() == text
    assert all(type(entry.size) is int and entry.size >= 0 for entry in manifest.files)


def test_only_trusted_signatures_count(make, key, plain: Path, tmp_path: Path, refused) -> None:
    signed, unsigned = make("signed"), make()
    stranger = BundlePolicy("signed", f"{key.other_signing}.pub")
    assert "whom nobody here trusts" in refused(signed, stranger)
    for path in (unsigned, plain, plain / "model.yaml", plain / "model.onnx"):
        message = refused(path, key.policy())
        assert "is not signed" in message
        assert "--sign" in message or "sign it" in message
    with open_bundle(signed, replace(stranger, policy="any")) as bundle:
        assert "not checked" in bundle.seal
    for path in (plain, unsigned):
        with open_bundle(path, key.policy("any")) as bundle:
            assert "signed by" not in bundle.seal
    # Two may sign, as while one key follows another; a folder may hold the keys of both.
    both = [read_signing_key(str(path), bare_path=True) for path in (key.signing, key.other_signing)]
    twice, made = package(plain, tmp_path / "twice", signing=both)
    assert made.signed_by == tuple(one.key_id for one in both)
    with open_bundle(twice, stranger) as bundle:
        assert f"signed by {both[1].key_id}" in bundle.seal
    with open_bundle(twice, replace(stranger, trusted_keys=str(key.signing.parent))) as bundle:
        assert all(one.key_id in bundle.seal for one in both)


def test_the_policy_must_be_one_and_trust_somebody(plain: Path, refused) -> None:
    assert "trusts nobody" in refused(plain, BundlePolicy("signed"), KeyProblem)
    assert "is none of any, signed" in refused(plain, BundlePolicy("sgined"), ValueError)


def test_a_wrong_or_missing_key_is_told_from_a_changed_file(make, key, flip, refused) -> None:
    path = make("signed", "encrypted")
    wrong = replace(key.policy(), key=f"file:{key.other_encryption}")
    assert "encrypted with another key" in refused(path, wrong, KeyProblem)
    message = refused(path, replace(wrong, key=""), KeyProblem)
    assert "no key is given" in message
    assert "bundle_key" in message
    flip(path / "model.onnx.enc", 400)
    assert "was changed" in refused(path, key.policy())


def test_those_who_load_without_a_policy_see_changes_too(make, key, flip) -> None:
    signed, encrypted, archive = make("signed"), make("encrypted"), make("archive")
    assert load_bundle(signed).name == load_bundle(signed / "model.yaml").name == "parts"
    flip(signed / "notes" / "README.md", 3)
    for path in (signed, signed / "model.yaml"):
        with pytest.raises(ModelError, match=r"README\.md: was changed"):
            load_bundle(path)
    with pytest.raises(ModelError, match=r"is encrypted.*bundle_key"):
        load_bundle(encrypted)
    with pytest.raises(ModelError, match=r"one file.*unpacks"):
        load_bundle(archive)


@pytest.mark.parametrize("how", [("signed", "archive"), ("signed", "encrypted", "archive")], ids="+".join)
def test_an_archive_changed_anywhere_is_refused_or_the_same(make, key, how: tuple[str, ...], tmp_path, refused) -> None:
    """ZIP has fields that mean nothing, such as dates: what is opened nevertheless has every byte that was signed."""
    path = make(*how)
    with open_bundle(path, key.policy()) as bundle:
        expected = {file.name: file.read_bytes() for file in bundle.folder.rglob("*") if file.is_file()}
    whole = path.read_bytes()
    bad, harmless = tmp_path / "bad.evb", 0
    for index in range(0, len(whole), max(1, len(whole) // 200)):
        changed = bytearray(whole)
        changed[index] ^= 1 << index % 8
        bad.write_bytes(changed)
        try:
            with open_bundle(bad, key.policy()) as bundle:
                found = {file.name: file.read_bytes() for file in bundle.folder.rglob("*") if file.is_file()}
            assert found == expected
            harmless += 1
        except InferenceError as error:
            assert str(bad) in str(error)  # noqa: PT017 (one of two outcomes)
    assert harmless < 80  # of 200
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        bad.write_bytes(whole[:length])
        assert "is no whole archive" in refused(bad, key.policy())


def test_archives_that_hold_more_twice_or_too_much_are_refused(make, key, tmp_path: Path, refused, write_seal) -> None:
    path = make("signed", "archive")
    bad = tmp_path / "bad.evb"
    shutil.copyfile(path, bad)
    with zipfile.ZipFile(bad, "a") as archive:
        archive.writestr("../../outside", "x")
    assert "outside was added" in refused(bad, key.policy())
    shutil.copyfile(path, bad)
    with zipfile.ZipFile(bad, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("model.yaml", "x")
    assert "two files of one name" in refused(bad, key.policy())
    folder = make()
    write_seal(folder)
    content = json.loads((folder / "seal.json").read_text())
    content["files"][0]["size"] = 1 << 60
    (folder / "seal.json").write_text(json.dumps(content, sort_keys=True, separators=(",", ":")) + "\n")
    assert "of memory are free" in refused(folder, key.policy("any"))
