"""What several decoders share: grids of cells, boxes from centres, and tests of what values are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_vision.inference.decoders import Built, Candidates, Decode, Setup
from edge_vision.inference.errors import ModelError
from edge_vision.inference.onnx_header import TensorSpec

T = TypeVar("T")

CLASSES_OPTION = "how many classes there are, where further columns follow them; derived from the outputs where absent"
NORMALISED_OPTION = (
    "true where boxes are fractions of the image, false where pixels of the input; measured where absent"
)

USUAL_STRIDES = ((8, 16, 32), (8, 16, 32, 64), (8, 16), (16, 32), (16,), (8,), (32,), (4, 8, 16), (4, 8, 16, 32))


def cells(width: int, height: int, stride: int) -> tuple[int, int]:
    """Columns and rows of the grid of one stride; networks round a partial cell up."""
    return -(-width // stride), -(-height // stride)


def count(width: int, height: int, strides: Sequence[int]) -> int:
    """Cells of all strides together."""
    return sum(columns * rows for columns, rows in (cells(width, height, stride) for stride in strides))


def find_strides(total: int, width: int, height: int) -> tuple[int, ...] | None:
    """The usual set of strides that gives `total` cells for this input, or None."""
    return next((s for s in USUAL_STRIDES if count(width, height, s) == total), None)


def grid(width: int, height: int, strides: Sequence[int]) -> NDArray[np.float32]:
    """(N, 3): column, row and stride of every cell, level by level, each row-major."""
    levels = []
    for stride in strides:
        columns, rows = cells(width, height, stride)
        y, x = np.mgrid[:rows, :columns]
        levels.append(np.stack([x, y, np.full(x.shape, stride)], -1).reshape(-1, 3))
    return np.concatenate(levels).astype(np.float32)


def chosen_strides(setup: Setup, name: str, total: int, rows_a_cell: int = 1) -> tuple[int, ...]:
    """The strides of option `strides`, or the usual ones that give `total` rows. Raises the misfit where none do."""
    size = f"an input of {setup.input_width}x{setup.input_height}"
    given = setup.options.get("strides")
    if not given:
        strides = find_strides(total // rows_a_cell, setup.input_width, setup.input_height)
        if strides is None or total % rows_a_cell:
            raise setup.misfit(name, f"no usual set of strides gives {total} rows for {size}")
        return strides
    strides = tuple(int(stride) for stride in given)
    expected = count(setup.input_width, setup.input_height, strides) * rows_a_cell
    if expected != total:
        problem = f"strides {list(strides)} give {expected} rows for {size}, the model has {total}"
        raise setup.misfit(name, problem, "correct decoder_options.strides, or leave it out")
    return strides


def corners(centres: NDArray, sizes: NDArray) -> NDArray[np.float32]:
    """Boxes (N, 4) xyxy from centres (N, 2) and widths and heights (N, 2)."""
    half = sizes * np.float32(0.5)
    boxes = np.empty((len(centres), 4), np.float32)
    np.subtract(centres, half, out=boxes[:, :2])
    np.add(centres, half, out=boxes[:, 2:])
    return boxes


def select_rows(
    rows: NDArray, threshold: float, last: int
) -> tuple[NDArray[np.intp], NDArray, NDArray, NDArray] | None:
    """Rows (N, C) with objectness in column 4 and classes in 5..last whose product reaches the threshold: their
    indices, the rows, scores and classes; None where there are none."""
    # No class score exceeds 1, so a row whose objectness is below the threshold is out: a few rows are left to look at.
    index = (rows[:, 4] >= threshold).nonzero()[0]
    if not len(index):
        return None
    chosen = rows.take(index, 0)
    class_scores = chosen[:, 5:last]
    class_ids = class_scores.argmax(1)
    scores = np.maximum.reduce(class_scores, 1)
    scores *= chosen[:, 4]
    keep = scores >= threshold
    if not keep.all():
        index, chosen, scores, class_ids = index[keep], chosen[keep], scores[keep], class_ids[keep]
    return index, chosen, scores, class_ids


def strongest(table: NDArray, threshold: float) -> tuple[NDArray[np.intp], NDArray, NDArray]:
    """Rows of a table (N, classes) whose largest score reaches the threshold: their indices, scores and classes."""
    # Comparing is twice as fast as looking for each row's largest; indexing copies rows alone, `take` all of a view.
    index = np.flatnonzero((table >= threshold).any(1))
    chosen = table[index]
    return index, np.maximum.reduce(chosen, 1), chosen.argmax(1)


def option(setup: Setup, name: str, key: str, kind: type[T], choices: tuple[T, ...] = ()) -> T | None:
    """Option `key` of the bundle, checked, or None where it is absent."""
    value = setup.options.get(key)
    if value is None:
        return None
    wrong = not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)
    if wrong or (choices and value not in choices):
        wanted = (
            f"one of {', '.join(map(str, choices))}"
            if choices
            else {bool: "true or false", int: "a whole number"}[kind]
        )
        raise ModelError(setup.file, f"is {value!r}, for decoder {name}", f"give {wanted}", f"decoder_options.{key}")
    return value


def counted(setup: Setup, name: str, most: int) -> int:
    """Option `classes`, which must lie in 1..most; `most` where it is absent."""
    classes = option(setup, name, "classes", int)
    if classes is None:
        return most
    if not 1 <= classes <= most:
        raise ModelError(
            setup.file, f"is {classes}, for outputs that have room for {most}", "correct it", "decoder_options.classes"
        )
    return classes


def to_pixels(setup: Setup, name: str, boxes: NDArray) -> NDArray[np.float32] | None:
    """(2,) factors that make pixels of boxes (N, 4) like these, None where they are pixels: by option `normalised`,
    else by the size of the sample's numbers."""
    normalised = option(setup, name, "normalised", bool)
    if normalised is None:
        normalised = fractions(boxes)
    return np.array([setup.input_width, setup.input_height], np.float32) if normalised else None


def finished(setup: Setup, decode: Decode, classes: int | None, suppress: bool = True) -> Built:
    """`Built`, with half- and double-precision outputs turned into float32 before `decode` sees them."""
    if all(array.dtype.kind != "f" or array.dtype == np.float32 for array in setup.sample):
        return Built(decode, classes, suppress)

    def in_float32(outputs: Sequence[NDArray], threshold: float) -> Candidates:
        return decode([o.astype(np.float32) if o.dtype.kind == "f" else o for o in outputs], threshold)

    return Built(in_float32, classes, suppress)


def names(outputs: Sequence[TensorSpec]) -> tuple[str, ...]:
    """The outputs' names without scopes and TensorFlow's output numbers: `raw_outputs/scores:0` is scores."""
    return tuple(PurePosixPath(spec.name.split(":")[0]).name.lower() for spec in outputs)


def whole(shape: Sequence[int | None]) -> tuple[int, ...] | None:
    """The shape where every dimension is known, else None."""
    return tuple(d for d in shape if d is not None) if None not in shape else None


def only(outputs: Sequence[TensorSpec], dimensions: int) -> tuple[int, tuple[int, ...]] | None:
    """(index, shape) of the one output of that many dimensions, batch 1, all known; None for none or several."""
    found = [(i, spec.shape) for i, spec in enumerate(outputs) if len(spec.shape) == dimensions]
    if len(found) != 1:
        return None
    shape = whole(found[0][1])
    return (found[0][0], shape) if shape is not None and shape[0] == 1 else None


def table_and_boxes(outputs: Sequence[TensorSpec]) -> tuple[int, int] | None:
    """Places of scores (1, N, C) and boxes (1, N, 4) among the outputs of three dimensions, where there are just these;
    with C = 4, by their names."""
    places = [i for i, spec in enumerate(outputs) if len(spec.shape) == 3]
    if len(places) != 2 or any(outputs[i].shape[0] != 1 for i in places):
        return None
    first, second = places
    if outputs[first].shape[1] != outputs[second].shape[1]:
        return None
    fours = [i for i in places if outputs[i].shape[2] == 4]
    if len(fours) == 2:
        fours = [i for i in places if "box" in outputs[i].name.lower() or "dets" in outputs[i].name.lower()]
    if len(fours) != 1:
        return None
    return (second if fours[0] == first else first), fours[0]


def mask_coefficients(outputs: Sequence[TensorSpec], input_width: int, input_height: int) -> int:
    """Columns that a segmentation file has for masks: the channels of its prototypes, (1, 32, H/4, W/4) or channels
    last; 0 without prototypes."""
    found = only(outputs, 4)
    if found is None:
        return 0
    _, second, third, fourth = found[1]
    return fourth if (second, third) == (input_height // 4, input_width // 4) else second


def probabilities(values: NDArray) -> bool:
    """Whether all values lie in 0..1, up to the rounding of half precision and 8 bits."""
    return values.size > 0 and float(values.min()) >= -0.01 and float(values.max()) <= 1.01


def whole_numbers(values: NDArray) -> bool:
    """Whether all values are whole and not negative, as class numbers are."""
    return bool((values >= 0).all() and (values == np.round(values)).all())


def ordered(boxes: NDArray) -> bool:
    """Whether boxes (N, 4) are xyxy: their second corner is never left of or above the first."""
    return bool((boxes[:, 2:] >= boxes[:, :2] - 1e-3).all())


def fractions(boxes: NDArray) -> bool:
    """Whether boxes (N, 4) are in fractions of the image and not in pixels, by the middle one of their numbers. Zeros
    tell nothing (they fill rows up); nothing but zeros counts as pixels."""
    values = np.abs(boxes[boxes != 0])
    return bool(values.size and np.median(values) <= 1.5)
