"""Generated parameter files carry every value with its type; the user's file is read as ROS would."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from edge_vision.deployment import DeploymentError
from edge_vision.deployment.parameter_files import (
    ARGUMENTS_PATTERN,
    generate,
    matches,
    read,
    scratch_directory,
    unmatched,
)

# Control characters (other than tab and newline) and surrogates cannot be in a command line or file name either.
TEXTS = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=120)
SCALARS = st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), TEXTS)


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,12}", fullmatch=True), SCALARS, min_size=1, max_size=6))
def test_values_come_back_with_their_type(parameters):
    content = yaml.safe_load(generate({"camera": parameters}, Path("/nowhere")).text)
    found = content[ARGUMENTS_PATTERN + "camera"]["ros__parameters"]
    assert found == parameters
    assert {name: type(value) for name, value in found.items()} == {n: type(v) for n, v in parameters.items()}


def test_the_name_is_made_of_the_content(tmp_path: Path):
    one = generate({"camera": {"source": "0"}}, tmp_path / "scratch")
    same = generate({"camera": {"source": "0"}, "inference": {}}, tmp_path / "scratch")
    other = generate({"camera": {"source": 0}}, tmp_path / "scratch")
    assert one == same
    assert one.path != other.path
    assert not one.path.parent.exists()  # nothing is written before `write`


def test_write_makes_a_private_folder_and_leaves_no_parts(tmp_path: Path):
    file = generate({"camera": {"source": "/a b/ü.mp4"}}, tmp_path / "scratch")
    assert file.write() == file.path
    assert file.write().read_text() == file.text
    assert os.stat(file.path.parent).st_mode & 0o777 == 0o700
    assert list(file.path.parent.iterdir()) == [file.path]


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path):
    (tmp_path / "file").write_text("")
    file = generate({"camera": {"source": "x"}}, tmp_path / "file" / "scratch")
    with pytest.raises(DeploymentError, match=r"cannot write the parameter file .*; set TMPDIR"):
        file.write()


def test_scratch_directory_prefers_the_users_own(tmp_path: Path):
    assert scratch_directory({"XDG_RUNTIME_DIR": str(tmp_path)}) == tmp_path / "edge_vision"
    gone = scratch_directory({"XDG_RUNTIME_DIR": str(tmp_path / "gone"), "TMPDIR": str(tmp_path)})
    assert gone == tmp_path / f"edge_vision-{os.getuid()}"


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("/**", "/camera", True),
        ("/**", "/a/b/camera", True),
        ("/**/camera", "/camera", True),
        ("/**/camera", "/a/b/camera", True),
        ("/**/camera", "/a/overlay", False),
        ("/**/**/camera", "/front/camera", True),
        ("/*/camera", "/front/camera", True),
        ("/*/camera", "/camera", False),
        ("camera", "/camera", True),
        ("camera", "/front/camera", False),
        ("/front/camera", "/front/camera", True),
        ("/front/cam", "/front/camera", False),
    ],
)
def test_patterns_match_as_in_ros(pattern: str, name: str, expected: bool):
    assert matches(pattern, name) is expected


def test_nested_namespaces_are_read(tmp_path: Path):
    path = tmp_path / "p.yaml"
    path.write_text("front:\n  camera: {ros__parameters: {fps: 5.0}}\n/**: {ros__parameters: {autostart: false}}\n")
    assert read(path) == {"/front/camera": {"fps": 5.0}, "/**": {"autostart": False}}
    assert unmatched(path, ["/front/camera", "/front/inference"]) == []
    assert unmatched(path, ["/rear/camera"]) == ["/front/camera"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [1,", "is no YAML"),
        ("just text", "is no parameter file; it needs entries such as"),
        ("backend: openvino", "has no ros__parameters; it needs entries such as"),
        ("", "is no parameter file"),
    ],
)
def test_a_file_that_ros_could_not_use_is_said(tmp_path: Path, text: str, says: str):
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(DeploymentError) as caught:
        read(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)


def test_infinity_is_a_number_in_yaml():
    text = generate({"camera": {"duration": math.inf}}, Path("/nowhere")).text
    assert ".inf" in text
