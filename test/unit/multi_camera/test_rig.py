"""The rig file: read as written, and every mistake told with its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_vision.calibration.camera_info_file import write_camera_info
from edge_vision.datatypes import CameraInfo
from edge_vision.multi_camera import RigError, parse_rig, read_rig

RIG = """
cameras:
  door:
    camera_info: door.yaml
    pose: {xyz: [0, 0, 3], quaternion: [1, 0, 0, 0]}   # straight down, image x along x
    anchor: centre
  hall:
    homography: [[0.01, 0, -3.2], [0, 1e-02, -2.4], [0, 0, 1]]
    image_size: [640, 480]
association:
  alignment: 0.05
  lost_after: 3
"""


def test_a_rig_is_read_with_files_beside_it(tmp_path: Path) -> None:
    K = np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 1]])
    write_camera_info(tmp_path / "door.yaml", CameraInfo(640, 480, K))
    (tmp_path / "rig.yaml").write_text(RIG)
    rig = read_rig(tmp_path / "rig.yaml")
    assert [(camera.name, camera.anchor) for camera in rig.cameras] == [("door", "centre"), ("hall", "bottom")]
    assert (rig.parameters.alignment, rig.parameters.lost_after) == (0.05, 3)
    door, hall = (camera.plane for camera in rig.cameras)
    np.testing.assert_allclose(door.to_plane(np.array([[380.5, 240.5]])), [[0.3, 0.0]], atol=1e-12)
    np.testing.assert_allclose(hall.to_plane(np.array([[420.5, 340.5]])), [[1.0, 1.0]], atol=1e-12)


HALL = "homography: [[1, 0, 0], [0, 1, 0], [0, 0, 1]], image_size: [640, 480]"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cameras: [", "not valid YAML"),
        ("{}", "cameras: is missing"),
        ("cameras: {a: 3}", r"cameras\.a must be a mapping"),
        ("cameras: {a: {}}", r"cameras\.a has neither of pose and homography"),
        (f"cameras: {{a: {{{HALL}, pose: {{}}}}}}", r"cameras\.a has both"),
        (f"cameras: {{a: {{{HALL}, colour: red}}}}", "unknown key 'colour'"),
        (f"cameras: {{a: {{{HALL}, anchor: top}}}}", r"cameras\.a\.anchor is 'top'"),
        (f"cameras: {{a: {{{HALL}, camera_info: none.yaml}}}}", r"camera_info: no such camera_info file: none\.yaml"),
        (f"cameras: {{a: {{{HALL}, camera_info: package://x/y}}}}", "give a path"),
        ("cameras: {a: {pose: {xyz: [0, 0, 3], rpy: [0, 0, 0]}}}", r"cameras\.a\.camera_info is missing"),
        ("cameras: {a: {homography: [1, 2]}}", r"cameras\.a\.image_size is missing"),
        ("cameras: {a: {homography: [1, 2], image_size: [4, 4]}}", r"homography is \[1, 2\]: it must be 9"),
        ("cameras: {a: {homography: [1, 1, 1, 1, 1, 1, 1, 1, 1], image_size: [4, 4]}}", "homography: .*singular"),
        ("cameras: {a: {homography: [x, 1, 1, 1, 1, 1, 1, 1, 1], image_size: [4, 4]}}", "must be 9 numbers"),
        (f"{{cameras: {{a: {{{HALL}}}}}, association: {{gate: -1}}}}", "association: gate is -1"),
        (f"{{cameras: {{a: {{{HALL}}}}}, association: {{gates: 1}}}}", "association has the unknown key 'gates'"),
        (f"{{cameras: {{a: {{{HALL}}}}}, association: {{gate: 20}}}}", r"keep_gate \(18\.4\) must not be below"),
    ],
)
def test_mistakes_are_told_with_their_place(text: str, told: str) -> None:
    with pytest.raises(RigError, match=rf"^my\.yaml.*{told}"):
        parse_rig(text, "my.yaml")


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(RigError, match=r"no such rig file: .*absent\.yaml"):
        read_rig(tmp_path / "absent.yaml")
