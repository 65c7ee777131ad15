from __future__ import annotations

import json
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_vision.datasets import Dataset, DatasetError, read_dataset
from edge_vision.datasets.image_headers import image_size


def kinds(dataset: Dataset) -> dict[str, int]:
    return dataset.issue_counts()


def test_coco_boxes_are_xyxy_and_categories_become_places(tmp_path, write_coco):
    file = write_coco(tmp_path / "instances_train.json", {"a.png": [(2, [1, 2, 10, 20])], "b.png": []})
    dataset = read_dataset(file)
    assert (dataset.kind, dataset.task, dataset.labels) == ("coco", "detection", ("a", "b"))
    assert dataset.samples[0].boxes.tolist() == [[1, 2, 11, 22]]
    assert dataset.samples[0].class_ids.tolist() == [1]
    assert dataset.samples[1].boxes.shape == (0, 4)
    assert dataset.splits == ("train",)
    assert not dataset.issues
    assert dataset.samples[0].load().shape == (48, 64, 3)


def test_every_kind_of_wrong_annotation_is_counted_and_left_out(tmp_path, write_coco):
    nan = float("nan")
    wrong = {
        "not finite": (1, [nan, 2, 10, 10]),
        "unknown class": (7, [1, 2, 10, 10]),
        "no area": (1, [1, 2, 0, 10]),
        "outside": (1, [70, 2, 10, 10]),
        "partly outside": (1, [50, 2, 30, 10]),
    }
    good = (1, [5, 5, 10, 10])
    file = write_coco(tmp_path / "x.json", {"a.png": [good, good, *wrong.values()], "b.png": [good]})
    content = json.loads(file.read_text())
    content["annotations"].append({"image_id": 1, "category_id": 1})
    content["annotations"].append({"image_id": 99, "category_id": 1, "bbox": [0, 0, 1, 1]})
    content["images"] += [
        {"id": 3, "file_name": "gone.png", "width": 64, "height": 48},
        {"id": 4, "file_name": "broken.png"},
        {"id": 5, "file_name": "b.png", "width": 64, "height": 48},
        {"id": 6},
    ]
    content["images"][1]["width"] = 0
    content["images"][0]["height"] = 50
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")
    file.write_text(json.dumps(content))
    dataset = read_dataset(file)
    expected = dict.fromkeys(wrong, 1) | {
        "duplicate box": 1,
        "malformed label": 2,
        "stray label": 1,
        "missing image": 1,
        "unreadable image": 1,
        "image twice": 1,
        "no size": 1,
        "size differs": 1,
    }
    assert kinds(dataset) == expected
    assert dataset.samples[0].boxes.tolist() == [[5, 5, 15, 15], [50, 2, 80, 12]]
    outside = next(issue for issue in dataset.issues if issue.kind == "outside")
    assert "annotation 5" in outside.where
    assert "70, 2, 80, 12 in 64 x 48" in outside.text


def test_yolo_reads_polygons_and_names_the_line_that_is_wrong(tmp_path, write_image):
    for split in ("train", "val"):
        write_image(tmp_path / "images" / split / "clip_001.png", 1)
        (tmp_path / "labels" / split).mkdir(parents=True)
    label = tmp_path / "labels/train/clip_001.txt"
    label.write_text(
        "0 0.5 0.5 0.25 0.5\n1 0.1 0.1 0.5 0.1 0.5 0.3\n0 nan .5 .1 .1\n5 .5 .5 .1 .1\n0 .5 .5\n0.5 .5 .5 .1 .1\n"
    )
    (tmp_path / "labels/val/other.txt").write_text("0 .5 .5 .1 .1\n")
    dataset = read_dataset(tmp_path)
    assert dataset.kind == "yolo"
    assert dataset.splits == ("train", "val")
    assert dataset.in_split("train")[0].boxes.tolist() == pytest.approx(
        np.array([[24, 12, 40, 36], [6.4, 4.8, 32, 14.4], [28.8, 21.6, 35.2, 26.4]])
    )
    assert kinds(dataset) == {"malformed label": 2, "not finite": 1, "unlabelled image": 1, "stray label": 1}
    assert any(issue.where.endswith("clip_001.txt, line 5") for issue in dataset.issues)
    # With the table told, class 5 is outside it.
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [nut, bolt]\n")
    described = read_dataset(tmp_path)
    assert described.labels == ("nut", "bolt")
    assert kinds(described)["unknown class"] == 1


def test_class_folders_with_and_without_splits(tmp_path, write_image):
    for split in ("train", "valid"):
        for kind in ("cat", "dog"):
            write_image(tmp_path / split / kind / f"{split}.jpg", len(split) + len(kind))
    dataset = read_dataset(tmp_path)
    assert (dataset.task, dataset.labels, dataset.splits) == ("classification", ("cat", "dog"), ("train", "val"))
    plain = read_dataset(tmp_path / "train")
    assert plain.splits == ()
    assert [sample.class_ids.tolist() for sample in plain.samples] == [[0], [1]]


def test_mot_counts_pixels_from_one_and_passes_over_what_is_not_considered(tmp_path, write_image):
    for name in ("A", "B"):
        for frame in (1, 2):
            write_image(tmp_path / "train" / name / "img1" / f"{frame:06d}.jpg", frame)
        (tmp_path / "train" / name / "gt").mkdir()
        rows = "1,1,5,6,10,20,1,1,1\n1,2,5,6,10,20,0,1,1\n2,1,1,1,4,4,1,3,1\n9,1,1,1,4,4,1,1,1\nx\n"
        (tmp_path / "train" / name / "gt/gt.txt").write_text(rows)
    dataset = read_dataset(tmp_path)
    assert dataset.kind == "mot"
    assert dataset.splits == ("train",)
    assert {sample.sequence for sample in dataset.samples} == {"A", "B"}
    assert dataset.samples[0].boxes.tolist() == [[4, 5, 14, 25]]
    assert dataset.labels[int(dataset.samples[1].class_ids[0])] == "car"
    assert kinds(dataset) == {"malformed label": 2, "stray label": 2}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "not one image"),
        ({"x.json": "{"}, "no JSON"),
        ({"x.json": "[1]"}, "no list of images"),
        ({"x.json": '{"images": [], "annotations": [], "categories": []}'}, "lists no images"),
        ({"x.json": '{"images": [{"id": 1, "file_name": "a"}], "annotations": []}'}, "no categories"),
        ({"data.yaml": "names: [a]\ntrain: nowhere\n"}, "no folder or list nowhere"),
        ({"data.yaml": "names: [a]\nnc: 2\ntrain: .\n"}, "nc is 2"),
        ({"data.yaml": "names: [a"}, "no YAML"),
        ({"data.yaml": "names: [a]\n"}, "names no splits"),
        ({"x.csv": "1"}, "is no dataset"),
    ],
)
def test_what_is_no_dataset_says_so(tmp_path: Path, files, words):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    path = tmp_path / next(iter(files)) if files else tmp_path
    with pytest.raises(DatasetError, match=words) as raised:
        read_dataset(path)
    assert str(path) in str(raised.value)


def test_a_dataset_whose_images_are_all_missing_names_the_first(tmp_path, write_coco):
    file = write_coco(tmp_path / "x.json", {"a.png": []})
    (tmp_path / "images/a.png").unlink()
    with pytest.raises(DatasetError, match=r"missing image.*a\.png"):
        read_dataset(file)


def test_splits_of_different_categories_are_refused(tmp_path, write_coco):
    write_coco(tmp_path / "train.json", {"a.png": []})
    write_coco(tmp_path / "val.json", {"b.png": []}, labels=("b", "a"))
    with pytest.raises(DatasetError, match="other categories"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".tiff"])
def test_sizes_come_from_headers_as_opencv_would_give_them(tmp_path, write_image, suffix):
    path = write_image(tmp_path / f"x{suffix}", 3, 61, 47)
    assert image_size(path) == (61, 47)
    path.write_bytes(path.read_bytes()[:9])
    assert image_size(path) is None


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_orientation_swaps_width_and_height_as_in_opencv(tmp_path, write_image, order):
    plain = write_image(tmp_path / "x.jpg", 3, 61, 47).read_bytes()
    tiff = (b"II" if order == "<" else b"MM") + struct.pack(order + "HIH", 42, 8, 1)
    tiff += struct.pack(order + "HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack(order + "I", 0)
    segment = b"Exif\0\0" + tiff
    turned = tmp_path / "turned.jpg"
    turned.write_bytes(plain[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + plain[2:])
    assert image_size(turned) == (47, 61)
    assert cv2.imread(str(turned)).shape[:2] == (61, 47)
