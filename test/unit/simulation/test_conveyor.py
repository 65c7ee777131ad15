"""The conveyor twin: repeatable frames, and a truth that is what the pixels show."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from edge_vision.datatypes import Tracks, TrackState
from edge_vision.simulation import FRAME_ID, LABELS, Conveyor, ConveyorOptions

PLAIN = ConveyorOptions(noise=False, blur=False, rotation=0.0)


def bounds(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64)


def test_same_seed_gives_the_same_pixels_and_another_seed_others() -> None:
    first, again, other = (Conveyor(ConveyorOptions(seed=seed)).render(40) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.frame.image, again.frame.image)
    np.testing.assert_array_equal(first.truth.boxes, again.truth.boxes)
    assert not np.array_equal(first.frame.image, other.frame.image)


def test_random_access_is_the_same_as_one_frame_after_the_other() -> None:
    sequential, random = Conveyor(ConveyorOptions(seed=5)), Conveyor(ConveyorOptions(seed=5))
    images = [sequential.render(index).frame.image for index in range(4)]
    for index in (3, 0, 2, 1):
        np.testing.assert_array_equal(random.render(index).frame.image, images[index])


def test_a_frame_is_not_written_to_by_the_next() -> None:
    conveyor = Conveyor(replace(PLAIN, seed=1))
    frame = conveyor.render(0, clean=True)
    image, clean = frame.frame.image.copy(), frame.clean.copy()
    conveyor.render(30, clean=True)
    np.testing.assert_array_equal(frame.frame.image, image)
    np.testing.assert_array_equal(frame.clean, clean)


def test_truth_needs_no_rendering() -> None:
    options = ConveyorOptions(seed=8, density=0.8)
    rendered, truth = Conveyor(options).render(100, 7_000).truth, Conveyor(options).truth(100, 7_000)
    for name in ("boxes", "scores", "class_ids", "ids", "velocities", "ages", "states"):
        np.testing.assert_array_equal(getattr(rendered, name), getattr(truth, name))
    assert (rendered.stamp, rendered.frame_id, rendered.labels) == (truth.stamp, truth.frame_id, truth.labels)


def test_frame_carries_stamp_frame_id_and_sequence() -> None:
    shot = Conveyor(ConveyorOptions(fps=30.0)).render(10, 1_000)
    assert shot.frame.stamp == shot.truth.stamp == 1_000 + 333_333_333
    assert shot.frame.frame_id == shot.truth.frame_id == FRAME_ID
    assert shot.frame.sequence == 10
    assert shot.frame.image.shape == (480, 640, 3)
    assert shot.frame.image.dtype == np.uint8
    assert shot.masks is None
    assert shot.clean is None


@pytest.mark.parametrize("size", [(640, 480), (320, 240), (960, 540)])
def test_boxes_bound_the_masks(size: tuple[int, int]) -> None:
    conveyor = Conveyor(ConveyorOptions(*size, seed=2, density=0.8))
    for index in (0, 57, 200):
        truth, masks = conveyor.truth(index), conveyor.masks(index)
        assert masks.shape == (len(truth), size[1], size[0])
        assert masks.sum(0).max() <= 1, "every pixel belongs to one object at most"
        for box, mask in zip(truth.boxes, masks, strict=True):
            np.testing.assert_allclose(bounds(mask), box, atol=1.6)
        assert (truth.boxes >= 0).all()
        assert (truth.boxes[:, 2] <= size[0]).all()
        assert (truth.boxes[:, 3] <= size[1]).all()


@pytest.mark.parametrize("distortion", [0.0, 1.0])
def test_boxes_bound_what_is_rendered(distortion: float) -> None:
    """Parts are brighter than the belt under them: what brightens against the empty belt is the part."""
    options = replace(PLAIN, seed=6, density=0.35, distortion=distortion)
    full, empty = Conveyor(options), Conveyor(replace(options, density=0.0))
    compared = 0
    for index in (0, 150, 300):
        brighter = (full.radiance(index).astype(int) - empty.radiance(index)).max(-1) > 9
        truth = full.truth(index)
        for i, box in enumerate(truth.boxes):
            others = np.delete(truth.boxes, i, 0)
            apart = (others[:, :2] > box[2:] + 12).any(1) | (others[:, 2:] < box[:2] - 12).any(1)
            inside = (box[:2] > 20).all() and box[2] < 620
            if not (apart.all() and inside):
                continue
            x0, y0, x1, y1 = (int(v) for v in box + [-8, -8, 8, 8])
            seen = bounds(brighter[y0:y1, x0:x1]) + [x0, y0, x0, y0]
            # The lamp is at the upper left: lower right edges can be as dark as the belt over their last pixels.
            outwards = (seen - box) * [-1, -1, 1, 1]
            assert (outwards < 2.0).all(), LABELS[truth.class_ids[i]]
            assert (outwards > [-2.0, -2.0, -4.0, -4.0]).all(), LABELS[truth.class_ids[i]]
            compared += 1
    assert compared >= 8


def test_the_lens_moves_parts_at_the_edge_inwards() -> None:
    straight = Conveyor(replace(PLAIN, seed=6, distortion=0.0)).truth(30)
    bent = Conveyor(replace(PLAIN, seed=6)).truth(30)
    common, i, j = np.intersect1d(straight.ids, bent.ids, return_indices=True)
    middle = np.array([322.6, 237.2])
    whole = (straight.boxes[i][:, 0] > 5) & (straight.boxes[i][:, 2] < 635)
    before = np.linalg.norm((straight.boxes[i, :2] + straight.boxes[i, 2:]) / 2 - middle, axis=1)[whole]
    after = np.linalg.norm((bent.boxes[j, :2] + bent.boxes[j, 2:]) / 2 - middle, axis=1)[whole]
    assert len(common) > 5
    # Barrel: k1 r^2 inwards, 0.125 x (distance / 600 px)^2 to first order (within the second order and the box).
    expected = before * (1 - 0.125 * (before / 600) ** 2 + 0.035 * (before / 600) ** 4)
    np.testing.assert_allclose(after, expected, atol=1.5)
    assert (after < before).all()


def test_ids_are_stable_and_parts_only_move_on() -> None:
    conveyor = Conveyor(replace(PLAIN, seed=9))
    seen: dict[int, tuple[int, float]] = {}
    gone: set[int] = set()
    for index in range(0, 400, 5):
        truth = conveyor.truth(index)
        assert len(set(truth.ids.tolist())) == len(truth)
        assert (truth.ids > 0).all()
        now = {int(i): (int(c), float(b[2])) for i, c, b in zip(truth.ids, truth.class_ids, truth.boxes, strict=True)}
        for id_, (class_id, right) in now.items():
            if id_ in seen:
                assert class_id == seen[id_][0]
                # The visible box of a part behind another may grow and shrink by what covers it.
                assert right > seen[id_][1] - 60
        # Parts that left over the right edge do not come back.
        assert not gone & set(now)
        gone |= {i for i in seen if i not in now and seen[i][1] > 600}
        seen |= now
    assert len(seen) > 30
    assert len(gone) > 10
    assert {class_id for class_id, _ in seen.values()} == set(range(len(LABELS)))


def test_velocities_are_those_of_the_boxes() -> None:
    conveyor = Conveyor(replace(PLAIN, seed=4, fps=100.0, density=0.3))
    before, now, after = (conveyor.truth(index) for index in (499, 500, 501))
    common = set(before.ids.tolist()) & set(after.ids.tolist())
    compared = 0
    for i, id_ in enumerate(now.ids.tolist()):
        box = now.boxes[i]
        if id_ not in common or box[0] < 2 or box[2] > 638:
            continue
        a, b = before.boxes[before.ids == id_][0], after.boxes[after.ids == id_][0]
        moved = ((b[:2] + b[2:]) - (a[:2] + a[2:])) / 2 / 0.02
        # The lens bends the box's corners a little otherwise than its centre; covered parts' boxes jump by pixels.
        if np.abs((b - a)[0] - (b - a)[2]) > 0.2:
            continue
        np.testing.assert_allclose(now.velocities[i], moved, atol=6.0)
        compared += 1
    assert compared >= 3
    assert abs(
        float(np.median(now.velocities[:, 0])) - conveyor.layout.belt_speed(5.0)
    ) < 0.1 * conveyor.layout.belt_speed(5.0)


def test_travel_is_the_integral_of_speed() -> None:
    conveyor = Conveyor(ConveyorOptions(seed=12, variation=0.6))
    times = np.linspace(0, 20, 4001)
    speeds = np.array([conveyor.layout.belt_speed(t) for t in times])
    integral = float(np.sum((speeds[1:] + speeds[:-1]) / 2 * np.diff(times)))
    assert conveyor.layout.travel(20.0) == pytest.approx(integral, rel=1e-6)
    assert speeds.min() > 0
    assert speeds.max() / speeds.min() > 1.3


def test_ages_count_header_time_from_the_entry() -> None:
    conveyor = Conveyor(ConveyorOptions(seed=1))
    early, late = conveyor.truth(100), conveyor.truth(115)
    _, i, j = np.intersect1d(early.ids, late.ids, return_indices=True)
    assert len(i) > 3
    np.testing.assert_allclose(late.ages[j] - early.ages[i], 0.5, atol=1e-4)
    fresh = late.boxes[:, 2] < 40  # just coming in on the left
    assert (late.ages[fresh] < 1.0).all()
    assert (early.ages <= 100 / 30 + 1e-6).all()


def test_an_empty_belt_has_an_empty_truth() -> None:
    shot = Conveyor(ConveyorOptions(density=0.0)).render(5, masks=True)
    assert isinstance(shot.truth, Tracks)
    assert len(shot.truth) == 0
    assert shot.truth.boxes.shape == (0, 4)
    assert shot.truth.velocities.shape == (0, 2)
    assert shot.masks.shape == (0, 480, 640)


def test_parts_that_hardly_show_are_left_out() -> None:
    conveyor = Conveyor(replace(PLAIN, seed=2, density=1.0))
    areas = {}
    for index in range(0, 120, 10):
        truth, masks = conveyor.truth(index), conveyor.masks(index)
        for id_, mask in zip(truth.ids.tolist(), masks, strict=True):
            areas.setdefault(id_, []).append(int(mask.sum()))
    # The largest view of a part is at most its whole; a quarter of the whole must show for the truth to name it.
    smallest = [min(values) / max(values) for values in areas.values() if len(values) > 3]
    assert len(smallest) > 20
    assert min(smallest) > 0.2


def test_resolution_does_not_change_the_scene() -> None:
    small = Conveyor(replace(PLAIN, seed=7)).truth(33)
    large = Conveyor(replace(PLAIN, seed=7, width=1280, height=960)).truth(33)
    np.testing.assert_array_equal(small.ids, large.ids)
    np.testing.assert_array_equal(small.class_ids, large.class_ids)
    np.testing.assert_allclose(small.boxes * 2, large.boxes, atol=3.0)


def test_states_and_labels() -> None:
    truth = Conveyor().truth(0)
    assert len(truth) > 3
    assert (truth.states == TrackState.CONFIRMED).all()
    assert truth.labels == LABELS
    assert len(LABELS) >= 6
    assert "defective_nut" in LABELS
    assert (truth.scores == 1).all()


def test_camera_info_is_the_truth() -> None:
    info = Conveyor(ConveyorOptions(width=1280, height=720, distortion=0.5)).camera_info()
    assert (info.width, info.height, info.distortion_model) == (1280, 720, "plumb_bob")
    assert info.K[0, 0] == info.K[1, 1] == pytest.approx(900.0)
    assert info.D[0] == pytest.approx(-0.0625)
    np.testing.assert_array_equal(info.P[:, :3], info.K)
    assert info.frame_id == FRAME_ID


def test_motion_blur_smears_along_the_belt_only() -> None:
    options = ConveyorOptions(seed=3, noise=False, speed=400.0, variation=0.0, exposure=0.02, distortion=0.0)
    sharp = Conveyor(replace(options, blur=False)).radiance(20)[60:420].astype(np.float32)
    blurred = Conveyor(options).radiance(20)[60:420].astype(np.float32)
    across, along = (np.abs(np.diff(blurred, axis=a)).mean() / np.abs(np.diff(sharp, axis=a)).mean() for a in (0, 1))
    assert along < 0.5
    assert across > 1.5 * along


def test_clean_image_is_the_mean_of_the_noisy_ones() -> None:
    conveyor = Conveyor(ConveyorOptions(width=160, height=120, seed=3))
    shot = conveyor.render(10, clean=True)
    difference = shot.frame.image.astype(np.float32) - shot.clean
    assert abs(float(difference.mean())) < 0.05
    assert 0.8 < float(difference.std()) < 3.0


@pytest.mark.parametrize("size", [(32, 32), (641, 479), (256, 64)])
def test_odd_sizes(size: tuple[int, int]) -> None:
    shot = Conveyor(ConveyorOptions(*size)).render(7, masks=True, clean=True)
    assert shot.frame.image.shape == shot.clean.shape == (size[1], size[0], 3)
    assert shot.masks.shape == (len(shot.truth), size[1], size[0])
    assert len(shot.truth) > 5


def test_scenes_of_two_threads_share_sprites_safely() -> None:
    options = [ConveyorOptions(width=320, height=240, seed=seed, rotation=300.0, noise=False) for seed in (1, 2)]
    alone = [[Conveyor(o).radiance(i).copy() for i in range(0, 40, 8)] for o in options]
    with ThreadPoolExecutor(2) as pool:
        together = list(
            pool.map(lambda o: [c.radiance(i).copy() for c in [Conveyor(o)] for i in range(0, 40, 8)], options)
        )
    np.testing.assert_array_equal(together, alone)
