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


def default_labels(count: int) -> Labels:
    """A table for a model of `count` classes that names none: COCO's for 80, numbered names otherwise."""
    return COCO if count == len(COCO) else tuple(f"class_{index}" for index in range(count))
