"""Detection scores by the COCO protocol, computed by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edge_vision.datatypes import Detections, Tracks

MAX_DETECTIONS = 100


@dataclass(frozen=True, slots=True)
class ClassScores:
    """COCO average precision of one class, and how many objects of it the truth holds."""

    label: str
    map50_95: float
    map50: float
    objects: int


@dataclass(frozen=True, slots=True)
class DetectionScores:
    """COCO average precision: over IoU 0.50:0.05:0.95, at 0.50 and at 0.75; mean over the classes in the truth.

    recall: average recall over the same IoUs with at most 100 detections a frame.
    """

    map50_95: float
    map50: float
    map75: float
    recall: float
    per_class: tuple[ClassScores, ...]
    frames: int
    objects: int
    detections: int

    def as_dict(self) -> dict:
        """Plain data for JSON."""
        return asdict(self)


def coco_protocol(truth: Sequence[Tracks | Detections], detections: Sequence[Detections]) -> Any:
    """pycocotools' COCOeval with every match made (`evaluate`), nothing accumulated: image ids are places in the
    sequences, category ids the class ids of the truth. Arguments and errors as of `evaluate_detections`."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise ImportError("detection scores need pycocotools: pip install 'pycocotools>=2.0.7'") from error
    if len(truth) != len(detections):
        raise ValueError(f"{len(truth)} frames of truth but {len(detections)} of detections: give one each a frame")
    if not sum(len(frame) for frame in truth):
        raise ValueError("there is no object in the truth of these frames: average precision is not defined")
    classes = sorted({int(c) for frame in truth for c in frame.class_ids})
    labels = next((frame.labels for frame in truth if frame.labels), ())
    annotations = [
        {"id": number, "image_id": image, "category_id": category, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for number, (image, category, box, _) in enumerate(_rows(truth), 1)  # pycocotools takes id 0 for "no match"
    ]
    results = [
        {"image_id": image, "category_id": category, "bbox": box, "score": score}
        for image, category, box, score in _rows(detections)
        if category in classes
    ]
    # pycocotools reports its progress on stdout, which belongs to the caller's figures.
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "info": {},
            "images": [{"id": i} for i in range(len(truth))],
            "annotations": annotations,
            "categories": [{"id": c, "name": _label(labels, c)} for c in classes],
        }
        coco.createIndex()
        found = COCO()
        found.dataset = {
            **coco.dataset,
            "annotations": [
                {**row, "id": number, "area": row["bbox"][2] * row["bbox"][3], "iscrowd": 0}
                for number, row in enumerate(results, 1)
            ],
        }
        found.createIndex()
        protocol = COCOeval(coco, found, "bbox")
        protocol.params.maxDets = [1, 10, MAX_DETECTIONS]
        protocol.params.areaRng, protocol.params.areaRngLbl = (
            protocol.params.areaRng[:1],
            ["all"],
        )  # a quarter of it all
        protocol.evaluate()
    return protocol


def evaluate_detections(truth: Sequence[Tracks | Detections], detections: Sequence[Detections]) -> DetectionScores:
    """COCO scores of ``detections[i]`` against ``truth[i]``, frame by frame.

    Boxes are xyxy pixels, matched by class id; labels are the truth's. Detections should come with a low score
    threshold (0.001), for the precision-recall curve needs the unlikely ones too; the best 100 a frame count.
    Source: Lin et al. 2014 and cocodataset.org, "Detection Evaluation", as pycocotools computes it.

    Raises ImportError with the remedy without pycocotools, ValueError where the lengths differ or there is no
    object in the truth.
    """
    protocol = coco_protocol(truth, detections)
    with contextlib.redirect_stdout(io.StringIO()):
        protocol.accumulate()
    classes = [int(c) for c in protocol.params.catIds]
    labels = next((frame.labels for frame in truth if frame.labels), ())
    # precision: IoU (10), recall (101), class, area (all), detections a frame (1, 10, 100); -1 is none.
    precision = protocol.eval["precision"][:, :, :, 0, -1]
    recall = protocol.eval["recall"][:, :, 0, -1]
    per_class = tuple(
        ClassScores(
            _label(labels, c),
            float(precision[:, :, i].mean()),
            float(precision[0, :, i].mean()),
            sum(int(np.count_nonzero(frame.class_ids == c)) for frame in truth),
        )
        for i, c in enumerate(classes)
    )
    return DetectionScores(
        map50_95=float(precision.mean()),
        map50=float(precision[0].mean()),
        map75=float(precision[5].mean()),
        recall=float(recall.mean()),
        per_class=per_class,
        frames=len(truth),
        objects=sum(len(frame) for frame in truth),
        detections=sum(len(frame) for frame in detections),
    )


def _rows(frames: Sequence[Tracks | Detections]):  # type: ignore[no-untyped-def]
    """(frame number, class id, [x, y, width, height], score) of every object, as Python numbers."""
    for image, frame in enumerate(frames):
        boxes = np.asarray(frame.boxes, np.float64).reshape(-1, 4)
        sizes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1).tolist()
        for category, box, score in zip(frame.class_ids.tolist(), sizes, frame.scores.tolist(), strict=True):
            yield image, int(category), box, float(score)


def _label(labels: Sequence[str], class_id: int) -> str:
    return labels[class_id] if 0 <= class_id < len(labels) else f"class_{class_id}"
