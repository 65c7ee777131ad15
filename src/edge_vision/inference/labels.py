"""Class tables that a model file does not carry itself."""

from __future__ import annotations

from edge_vision.datatypes import Labels

COCO: Labels = tuple(
    name.strip()
    for name in """
    person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign,
    parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella,
    handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard,
    surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange,
    broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop,
    mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors,
    teddy bear, hair drier, toothbrush
    """.split(",")  # noqa: SIM905 (a table to read)
)
"""The 80 classes of COCO 2017 in the contiguous order (0..79) that detectors are trained with."""


_COCO_UNUSED = (0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83)


def _by_category_id() -> Labels:
    names = iter(COCO)
    return tuple(f"unused_{i}" if i in _COCO_UNUSED else next(names) for i in range(91))


COCO_IDS: Labels = _by_category_id()
"""The 91 places of COCO's own category ids (1..90, with 0 and ten more not used), as RF-DETR's and TensorFlow's models
number them. Ids counted from "person" = 0 are `COCO_IDS[1:]`."""

KNOWN: dict[str, Labels] = {"coco": COCO, "coco91": COCO_IDS, "coco90": COCO_IDS[1:]}
"""Tables that can be named instead of a file."""


def default_labels(count: int) -> Labels:
    """A table for a model of `count` classes that names none: COCO's for 80, 90 and 91, numbered names otherwise."""
    known = next((table for table in KNOWN.values() if len(table) == count), None)
    return known or tuple(f"class_{index}" for index in range(count))
