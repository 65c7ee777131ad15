"""What is drawn of lines, zones and counts."""

from __future__ import annotations

import numpy as np
import pytest

from edge_vision.datatypes import Counts, Region
from edge_vision.drawing import draw_counts
from edge_vision.drawing.counters import rows_of

GATE = Region("gate", "line", ((320.0, 440.0), (320.0, 40.0)))
BIN = Region("bin", "zone", ((60.0, 120.0), (240.0, 120.0), (240.0, 300.0), (60.0, 300.0)))


def counts(*regions: Region, ins=None, outs=None, present=None, labels=("nut", "bolt")) -> Counts:
    count = len(regions)
    tables = [np.array(t if t is not None else np.zeros((count, 2)), np.int64) for t in (ins, outs, present)]
    return Counts(regions, np.arange(tables[0].shape[1]), *tables, labels=labels)


def test_a_plate_says_the_totals_and_the_classes_where_there_are_several() -> None:
    both = counts(GATE, BIN, ins=[[2, 5], [4, 0]], outs=[[1, 0], [3, 0]], present=[[0, 0], [1, 0]])
    assert rows_of(both, 0) == ["gate: 7 in, 1 out", "  bolt: 5 in, 0 out", "  nut: 2 in, 1 out"]
    assert rows_of(both, 1) == ["bin: 1 now, 4 in, 3 out"]


def test_many_classes_are_summed_up_and_unknown_ones_go_by_their_number() -> None:
    many = counts(GATE, ins=[[9, 8, 7, 6, 5, 4]], outs=[[0] * 6], present=[[0] * 6])
    said = rows_of(many, 0)
    assert said[0] == "gate: 39 in, 0 out"
    assert said[3] == "  2: 7 in, 0 out"
    assert said[-1] == "  others: 9 in, 0 out"


def test_line_arrow_and_zone_are_where_they_are_said_to_be() -> None:
    image = np.zeros((480, 640, 3), np.uint8)
    draw_counts(image, counts(GATE, BIN))
    yellow = (image[..., 2].astype(int) - image[..., 0]) > 100
    assert yellow[60:430, 320].all()
    assert yellow[240, 326:334].any(), "upwards, so that in is to the right"
    assert not yellow[:, 300:316].any()
    blue = (image[..., 0].astype(int) - image[..., 2]) > 100
    assert blue[299:302, 100:200].any(0).all()
    assert not blue[200:290, 100:200].any()
    lettering = image.min(2) > 200
    assert lettering[40:70, 325:480].any()


@pytest.mark.parametrize("size", [(480, 640), (8, 8), (1080, 1920)])
def test_regions_anywhere_are_drawn_without_complaint(size) -> None:
    image = np.zeros((*size, 3), np.uint8)
    far = Region("far", "line", ((-1e12, 5.0), (1e12, 5.0)))
    outside = Region("outside", "zone", ((5000.0, 5000.0), (6000.0, 5000.0), (6000.0, 6000.0)))
    draw_counts(image, counts(far, outside, GATE, BIN))
    assert image.any()
    draw_counts(image, Counts())
