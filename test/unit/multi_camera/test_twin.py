"""Two cameras over one belt of the twin, the second further down, turned by half a turn and with a clock of its own:
the twin's truth (with a detector's noise and misses) -> a tracker a camera -> one id an object."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from edge_vision.calibration.camera_info_file import write_camera_info
from edge_vision.datatypes import CameraInfo, Detections, Tracks
from edge_vision.multi_camera import MultiCamera, read_rig
from edge_vision.simulation import Conveyor, ConveyorOptions
from edge_vision.tracking import Tracker

METRE = 1e-3  # a unit of the twin is taken for a millimetre: the belt is 376 mm wide
OVERLAP = 300.0  # units that both cameras see, of 640

RIG = """
cameras:
  first: {{camera_info: first.yaml, anchor: centre, pose: {{xyz: {first}, rpy: [3.141592653589793, 0, 0]}}}}
  second: {{camera_info: second.yaml, anchor: centre, pose: {{xyz: {second}, quaternion: [0, 1, 0, 0]}}}}
association: {{alignment: 0.002, max_deviation: 0.1, initial_speed: 0.3, agility: 0.1}}
"""


def write_rig(folder: Path, scenes: list[Conveyor]) -> Path:
    """Rig and camera_info files of the two scenes. The plane: x along the belt, y away from the image's top, z up."""
    places = {}
    for name, scene in zip(("first", "second"), scenes, strict=True):
        info = scene.camera_info()
        x, y = (info.K[:2, 2] + 0.5) / scene.scale
        height = info.K[0, 0] / scene.scale
        places[name] = (METRE * np.array([x + scene.options.shift, -y, height])).tolist()
        write_camera_info(folder / f"{name}.yaml", half_turn(info) if name == "second" else info)
    (folder / "rig.yaml").write_text(RIG.format(**places))
    return folder / "rig.yaml"


def half_turn(info: CameraInfo) -> CameraInfo:
    """The calibration of the same camera mounted upside down, with the image not turned back."""
    K, D = info.K.copy(), info.D * [1, 1, -1, -1, 1]
    K[:2, 2] = [info.width - 1 - K[0, 2], info.height - 1 - K[1, 2]]
    return replace(info, K=K, D=D, P=np.hstack([K, np.zeros((3, 1))]))


def detect(truth: Tracks, size: tuple[int, int], turned: bool, rng: np.random.Generator) -> Detections:
    """What a good detector finds: edges with noise of 1 px, 3 % missed."""
    found = rng.random(len(truth)) >= 0.03
    boxes = truth.boxes[found]
    boxes = boxes + rng.normal(0, 1.0, boxes.shape)
    if turned:
        boxes = np.array([*size, *size]) - boxes[:, [2, 3, 0, 1]]
    scores = np.full(len(boxes), 0.9, np.float32)
    return Detections(boxes.astype(np.float32), scores, truth.class_ids[found], truth.labels, stamp=truth.stamp)


def owners(tracks: Tracks, truth: Tracks, size: tuple[int, int], turned: bool) -> dict[int, int]:
    """Local track id -> the object whose box it is (centres within a fifth of its size, and no other's nearer)."""
    if not (len(tracks) and len(truth)):
        return {}
    boxes = np.array([*size, *size]) - tracks.boxes[:, [2, 3, 0, 1]] if turned else tracks.boxes
    centres, true = (0.5 * (b[:, :2] + b[:, 2:]) for b in (boxes, truth.boxes))
    distance = np.linalg.norm(centres[:, None] - true[None], axis=2)
    sides = np.sqrt((truth.boxes[:, 2:] - truth.boxes[:, :2]).prod(axis=1))
    best = distance.argmin(axis=1)
    near = distance.min(axis=1) < 0.2 * sides[best]
    return dict(zip(tracks.ids[near].tolist(), truth.ids[best[near]].tolist(), strict=True))


@dataclass
class Agreement:
    """both: times that an object was followed in both views; same: of these, with one global id in both; switches:
    times that an object's global id changed in a view; local_switches: of its local track, the trackers' own;
    shared: ids that two objects had."""

    both: int = 0
    same: int = 0
    switches: int = 0
    local_switches: int = 0
    objects: int = 0
    shared: int = 0


def measure(folder: Path, seed: int, frames: int, density: float = 0.5, offset: float = 0.0) -> Agreement:
    """Agreement over ``frames`` frames of each camera; ``offset``: s by which the second one's clock is wrong."""
    options = ConveyorOptions(seed=seed, density=density)
    scenes = [Conveyor(options), Conveyor(replace(options, shift=640.0 - OVERLAP))]
    joiner = MultiCamera(read_rig(write_rig(folder, scenes)))
    trackers, rng, size = [Tracker.from_preset(), Tracker.from_preset()], np.random.default_rng(seed), (640, 480)
    result = Agreement()
    newest: dict[int, dict[int, int]] = {0: {}, 1: {}}
    local: dict[int, dict[int, int]] = {0: {}, 1: {}}
    objects_of: dict[int, set[int]] = {}
    for index in range(frames):
        now: list[dict[int, int]] = []
        for k, name in enumerate(("first", "second")):
            truth = scenes[k].truth(index, 1_000_000_000)
            truth = replace(truth, stamp=truth.stamp + round(offset * k * 1e9))
            tracks = trackers[k].update(detect(truth, size, k == 1, rng))
            ids = joiner.update(name, tracks).of(name)
            owner = owners(tracks, truth, size, k == 1)
            now.append({thing: ids[track] for track, thing in owner.items() if track in ids})
            for thing, found in now[-1].items():
                result.switches += newest[k].get(thing, found) != found
                objects_of.setdefault(found, set()).add(thing)
            for track, thing in owner.items():
                result.local_switches += local[k].get(thing, track) != track
                local[k][thing] = track
            newest[k].update(now[-1])
        for thing in now[0].keys() & now[1].keys():
            result.both += 1
            result.same += now[0][thing] == now[1][thing]
    result.objects = len(newest[0].keys() | newest[1].keys())
    result.shared = sum(len(things) > 1 for things in objects_of.values())
    return result


@pytest.mark.parametrize("offset", [0.0, 0.03])
def test_what_both_cameras_see_has_one_id(tmp_path: Path, offset: float) -> None:
    found = measure(tmp_path, seed=3, frames=300, offset=offset)
    assert found.both > 1500
    assert found.same >= 0.99 * found.both, found
    assert found.switches <= found.local_switches + 1, found
    assert found.shared == 0, found


def test_a_part_has_one_id_and_one_look_in_both_scenes() -> None:
    """The twin itself: the second view is the first one, moved along the belt."""
    options = ConveyorOptions(seed=5, noise=False, distortion=0.0, light=1.0)
    first, second = Conveyor(options), Conveyor(replace(options, shift=160.0))
    for index in (0, 40):
        here, there = first.truth(index), second.truth(index)
        whole = {
            thing: box
            for thing, box in zip(here.ids.tolist(), here.boxes, strict=True)
            if box[0] > 162 and box[2] < 638
        }
        seen = dict(zip(there.ids.tolist(), there.boxes, strict=True))
        assert len(whole) >= 5
        for thing, box in whole.items():
            np.testing.assert_allclose(seen[thing], box - [160, 0, 160, 0], atol=1e-3)
    # The lamp and the vignetting belong to the camera, the pixels before them to the scene.
    np.testing.assert_array_equal(first.radiance(40)[60:420, 162:638], second.radiance(40)[60:420, 2:478])


if __name__ == "__main__":
    import tempfile
    import time

    print("density  clock  seen in both  one id     id switches (trackers' own)  shared ids  objects")
    for density in (0.5, 0.9):
        for offset in (0.0, 0.03):
            begin, total = time.perf_counter(), Agreement()
            for seed in range(3):
                with tempfile.TemporaryDirectory() as folder:
                    one = measure(Path(folder), 10 + seed, 600, density, offset)
                for name in vars(total):
                    setattr(total, name, getattr(total, name) + getattr(one, name))
            print(
                f"{density:7g} {1e3 * offset:3.0f} ms {total.both:13d} {100 * total.same / total.both:7.2f} % "
                f"{total.switches:13d} ({total.local_switches}) {total.shared:22d} {total.objects:10d}"
                f"   {time.perf_counter() - begin:.0f} s"
            )
