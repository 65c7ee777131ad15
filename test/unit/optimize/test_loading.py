"""Data for passes: of the twin, seeded and kept; of folders and datasets, dealt out by clip; what is wrong is said."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_vision.datatypes import Detections, Frame
from edge_vision.inference.preprocess import InputSpec, geometry
from edge_vision.optimize.architectures import pixels
from edge_vision.optimize.data import Data
from edge_vision.optimize.loading import DataError, Limits, load_data
from edge_vision.optimize.loading import conveyor as conveyor_module
from edge_vision.simulation import LABELS, Conveyor, ConveyorOptions

WIDE = InputSpec(160, 96, layout="nchw", dtype="float32", resize="letterbox")
FEW = "sim://conveyor?train=9&calibration=3&test=11"


def picture(seed: int, width: int = 48, height: int = 40) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


# -- the twin -------------------------------------------------------------------------------------------------------


def test_frames_of_the_twin_lie_as_the_engine_lays_them(tmp_path: Path) -> None:
    data = load_data(FEW, WIDE, "detect", LABELS, cache=tmp_path)
    assert (len(data.train), len(data.calibration), len(data.test)) == (9, 3, 11)
    assert data.test.images.shape == (11, 96, 160, 3)
    assert data.test.sequences.tolist() == [9001] * 10 + [9002]
    assert set(data.train.sequences.tolist()) == {100_000, 100_001}
    first = int(np.random.default_rng([9001, 8]).integers(40, 120, 10)[0])
    shot = Conveyor(ConveyorOptions(seed=9001)).render(first)
    left, top, width, height = geometry(WIDE, 640, 480).content
    image = data.test.images[0]
    np.testing.assert_array_equal(image[:, :left], 114)
    np.testing.assert_array_equal(
        image[top : top + height, left : left + width], cv2.resize(shot.frame.image, (width, height))
    )
    truth = data.test.truth[0]
    assert isinstance(truth, Detections)
    np.testing.assert_allclose(truth.boxes, shot.truth.boxes * 0.2 + [left, top, left, top], atol=1e-3)
    assert truth.class_ids.tolist() == shot.truth.class_ids.tolist()
    assert truth.labels == LABELS


def test_the_twin_is_rendered_once_and_anew_when_what_it_depends_on_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered = []
    real = conveyor_module.render_clip
    monkeypatch.setattr(conveyor_module, "render_clip", lambda clip: rendered.append(clip.seed) or real(clip))
    limits = Limits(train=2, calibration=2, test=2)
    first = load_data("sim://conveyor", WIDE, "detect", LABELS, limits=limits, cache=tmp_path)
    assert rendered == [100_000, 60_000, 9_001]
    again = load_data("sim://conveyor", WIDE, "detect", LABELS, limits=limits, cache=tmp_path)
    assert len(rendered) == 3
    np.testing.assert_array_equal(first.train.images, again.train.images)
    assert first.name == again.name == "sim://conveyor?train=2&calibration=2&test=2"
    load_data("sim://conveyor?density=0.9", WIDE, "detect", LABELS, limits=limits, cache=tmp_path)
    assert len(rendered) == 6
    other = first.at(80, 48)
    assert len(rendered) == 9
    assert other.test.images.shape == (2, 48, 80, 3)
    assert isinstance(other.test.truth, tuple)
    assert isinstance(first.test.truth, tuple)
    np.testing.assert_allclose(other.test.truth[0].boxes, first.test.truth[0].boxes / 2, atol=1e-3)
    assert other.at(80, 48) is other
    assert not list(tmp_path.glob(".*")), "nothing half-made is left"


def test_classes_are_in_the_order_of_the_network(tmp_path: Path) -> None:
    order = ("other", *reversed(LABELS))
    limits = Limits(2, 1, 2)
    plain = load_data("sim://conveyor", WIDE, "detect", LABELS, limits=limits, cache=tmp_path)
    turned = load_data("sim://conveyor", WIDE, "detect", order, limits=limits, cache=tmp_path)
    for one, other in zip(plain.test.truth, turned.test.truth, strict=True):
        assert [LABELS[i] for i in one.class_ids] == [order[i] for i in other.class_ids]


def test_parts_are_crops_of_all_classes_and_the_same_at_any_size(tmp_path: Path) -> None:
    data = load_data("sim://parts?train=36&calibration=3&test=9", pixels(48, 48), "classify", LABELS, cache=tmp_path)
    assert data.train.images.shape == (36, 48, 48, 3)
    assert isinstance(data.train.truth, np.ndarray)
    assert set(data.train.truth.tolist()) == set(range(7))
    seeds = [set(split.sequences.tolist()) for split in (data.train, data.calibration, data.test)]
    assert min(seeds[0]) >= 100_000
    assert max(seeds[2]) < 60_000 <= min(seeds[1])
    small = data.at(24, 24)
    assert isinstance(small.train.truth, np.ndarray)
    np.testing.assert_array_equal(small.train.truth, data.train.truth)
    halved = np.stack([cv2.resize(image, (24, 24), interpolation=cv2.INTER_AREA) for image in data.test.images])
    assert np.abs(halved.astype(float) - small.test.images).mean() < 6


def test_two_processes_render_what_one_renders(tmp_path: Path) -> None:
    limits = Limits(44, 1, 1)
    steps = []

    class Bar:
        def update(self, n: float | None = 1) -> None:
            steps.append(n or 0)

        def set_postfix_str(self, s: str) -> None: ...

        def close(self) -> None: ...

    many = load_data(
        "sim://parts", pixels(32, 32), "classify", LABELS, limits=limits, cache=tmp_path, bar=lambda *_: Bar()
    )
    few = load_data("sim://parts", pixels(32, 32), "classify", LABELS, limits=Limits(20, 1, 1), cache=tmp_path)
    np.testing.assert_array_equal(many.train.images[:20], few.train.images)
    assert sum(steps) >= 46


@pytest.mark.parametrize(
    ("reference", "task", "labels", "message"),
    [
        ("sim://parts", "detect", LABELS, "no data for the task detect.*sim://conveyor for detect"),
        ("sim://conveyor", "classify", LABELS, "no data for the task classify"),
        ("sim://conveyor?train=0", "detect", LABELS, "train is '0'.*at least 1"),
        ("sim://conveyor?colour=red", "detect", LABELS, "unknown option 'colour'"),
        ("sim://parts?density=1", "classify", LABELS, "no such option"),
        ("sim://conveyor", "detect", ("bolt", "cat"), "shows hex_nut.*which the model does not know"),
        ("sim://conveyor", "detect", (), "names no classes"),
        ("http://somewhere/data", "detect", LABELS, "neither of the twin nor on disk"),
        ("sim://conveyor", "re-identification", LABELS, "no data for the task"),
    ],
)
def test_what_cannot_be_rendered_is_refused(
    tmp_path: Path, reference: str, task: str, labels: tuple[str, ...], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        load_data(reference, WIDE, task, labels, cache=tmp_path)


def test_limits_are_numbers_of_images() -> None:
    with pytest.raises(ValueError, match="test is 0"):
        Limits(test=0)


# -- datasets on disk -----------------------------------------------------------------------------------------------


def write_classes(
    folder: Path, clips: int, each: int, names: tuple[str, ...] = ("bolt", "gear"), offset: int = 0
) -> Path:
    """CLASS/clip7_0001.png, every clip of pictures that are alike."""
    for number, name in enumerate(names):
        for clip in range(clips):
            for k in range(each):
                path = folder / name / f"clip{clip + offset}_{k:04d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                image = picture(1000 * number + clip + offset)
                assert cv2.imwrite(str(path), np.clip(image.astype(int) + k, 0, 255).astype(np.uint8))
    return folder


def quiet(path: Path, cache: Path, **more: object) -> tuple[Data, list[str]]:
    told: list[str] = []
    data = load_data(path, pixels(32, 24), "classify", ("gear", "bolt"), cache=cache, warn=told.append, **more)  # type: ignore[arg-type]
    return data, told


def test_a_folder_of_classes_is_dealt_out_by_clip(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "set", clips=20, each=4)
    data, told = quiet(folder, tmp_path / "cache")
    sizes = [len(split) for split in (data.train, data.calibration, data.test)]
    assert sum(sizes) == 160
    assert sizes[0] > sizes[2] > sizes[1] > 0
    assert isinstance(data.test.truth, np.ndarray)
    assert set(data.test.truth.tolist()) == {0, 1}
    # Neighbours in a clip differ by a grey level: none of a test image may be in training.
    flat = data.train.images.reshape(len(data.train), -1).astype(int)
    for image in data.test.images:
        assert np.abs(flat - image.reshape(-1).astype(int)).mean(1).min() > 5
    again, _ = quiet(folder, tmp_path / "cache")
    np.testing.assert_array_equal(again.test.images, data.test.images)
    assert again.name == data.name
    assert len(data.at(16, 16).test) == sizes[2]
    few, _ = quiet(folder, tmp_path / "cache", limits=Limits(train=15, test=12))
    assert (len(few.train), len(few.test)) == (15, 12)
    assert not told or all("clips" in line for line in told)


def test_splits_that_are_there_are_kept_and_searched_for_leaks(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    write_classes(folder / "train", clips=12, each=2)
    write_classes(folder / "test", clips=12, each=1, offset=50)
    data, told = quiet(folder, tmp_path / "cache")
    assert (len(data.train), len(data.calibration), len(data.test)) == (48, 48, 24)
    assert told == []
    write_classes(folder / "test", clips=1, each=1, offset=3)  # clip3 is in training
    _, told = quiet(folder, tmp_path / "cache")
    assert len(told) == 1
    assert "are in training and test" in told[0]
    assert "clip3" in told[0]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_data(folder, pixels(32, 24), "classify", ("gear", "bolt"), cache=tmp_path / "cache")
    assert any("training and test" in str(one.message) for one in caught)


def test_near_duplicates_across_given_splits_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    write_classes(folder / "train", clips=12, each=2)
    for number, name in enumerate(("bolt", "gear")):
        for k in range(12):
            path = folder / "test" / name / f"other{k}x.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), picture(1000 * number + k + (0 if k < 3 else 500)))
    _, told = quiet(folder, tmp_path / "cache")
    assert any("near-duplicate in training" in line and "6 of 24" in line for line in told)


def coco(folder: Path, images: int, label: str = "bolt", extra: dict[str, object] | None = None) -> Path:
    content: dict[str, list[object]] = {"images": [], "annotations": [], "categories": [{"id": 7, "name": label}]}
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(1, images + 1):
        name = f"shot_{chr(97 + k // 26)}{chr(97 + k % 26)}.png"  # no numbers: images by themselves
        cv2.imwrite(str(folder / name), picture(k, 64, 48))
        content["images"].append({"id": k, "file_name": name, "width": 64, "height": 48})
        content["annotations"].append({"id": k, "image_id": k, "category_id": 7, "bbox": [8, 12, 16, 20]})
    if extra:
        content["annotations"].append({"id": 99, "image_id": 1, "bbox": [1, 1, 5, 5], **extra})
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return path


def test_a_coco_dataset_is_letterboxed_with_its_boxes(tmp_path: Path) -> None:
    data = load_data(
        coco(tmp_path / "set", 60),
        WIDE,
        "detect",
        ("gear", "bolt"),
        limits=Limits(calibration=2),
        cache=tmp_path / "c",
        warn=lambda _: None,
    )
    assert len(data.train) + len(data.test) == 60 - 6
    truth = data.test.truth[0]
    assert isinstance(truth, Detections)
    assert truth.class_ids.tolist() == [1]
    np.testing.assert_allclose(truth.boxes, [[8 * 2 + 16, 24, 24 * 2 + 16, 64]], atol=1e-3)
    np.testing.assert_array_equal(data.test.images[0][:, :16], 114)


def test_what_is_wrong_with_a_dataset_is_said_with_file_and_remedy(tmp_path: Path) -> None:
    def load(path: Path, task: str = "classify", labels: tuple[str, ...] = ("bolt", "gear")) -> Data:
        return load_data(path, pixels(32, 24), task, labels, cache=tmp_path / "cache", warn=lambda _: None)

    with pytest.raises(DataError, match=r"nowhere: there is no such file"):
        load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: is empty"):
        load(tmp_path / "empty")
    folder = write_classes(tmp_path / "set", clips=20, each=2)
    with pytest.raises(DataError, match=r"is a dataset for classification, the model is for detection"):
        load(folder, "detect")
    with pytest.raises(
        DataError, match=r"clip0_0000.png: is labelled 'gear', which the model does not know \(it knows bolt, nut\)"
    ):
        load(folder, labels=("bolt", "nut"))
    (folder / "gear" / "clip0_0001.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"clip0_0001.png: unreadable image.*Mend or take out"):
        load(folder)
    (folder / "gear" / "clip0_0001.png").unlink()
    whole = (folder / "gear" / "clip1_0001.png").read_bytes()
    for path in folder.rglob("*_0001.png"):
        path.write_bytes(whole[: len(whole) // 2])  # a header that reads, pixels that do not
    if cv2.imread(str(folder / "gear" / "clip1_0001.png")) is None:
        with pytest.raises(DataError, match=r"_0001.png: cannot be decoded.*Replace the file"):
            load(folder)
    few = write_classes(tmp_path / "few", clips=4, each=1)
    with pytest.raises(DataError, match=r"few: \d images for the split \w+ are too few.*at least 10"):
        load(few)
    one = write_classes(tmp_path / "one", clips=1, each=40, names=("bolt",))
    with pytest.raises(DataError, match=r"1 sequences cannot be dealt out.*frames of one clip must not be"):
        load(one, labels=("bolt", "gear"))
    wrong = coco(tmp_path / "coco", 20, extra={"category_id": 55})
    with pytest.raises(DataError, match=r"unknown class.*Mend or take out"):
        load(wrong, "detect")
    assert not list((tmp_path / "cache").glob(".*")), "nothing half-made is left"


def test_images_go_through_the_engines_own_preprocessing(tmp_path: Path) -> None:
    """What the network gets of a fitted image is what it gets of the frame itself."""
    from edge_vision.inference.preprocess import Preprocessor

    data = load_data("sim://conveyor?train=1&calibration=1&test=1", WIDE, "detect", LABELS, cache=tmp_path)
    first = int(np.random.default_rng([9001, 8]).integers(40, 120, 10)[0])
    shot = Conveyor(ConveyorOptions(seed=9001)).render(first)
    spec = dataclasses.replace(WIDE, scale=1 / 255)
    whole, _ = Preprocessor(spec)(shot.frame)
    fitted, _ = Preprocessor(spec)(Frame(data.test.images[0]))
    np.testing.assert_array_equal(whole, fitted)


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    blocked: Callable[[], Path] = lambda: tmp_path / "file" / "below"  # noqa: E731
    (tmp_path / "file").write_text("not a folder")
    data = load_data("sim://conveyor", WIDE, "detect", LABELS, limits=Limits(1, 1, 1), cache=blocked())
    assert len(data.test) == 1
