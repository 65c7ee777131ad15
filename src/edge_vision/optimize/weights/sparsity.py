"""Which weights become zero: the smallest, of a layer, of all layers, or of every four."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

GROUP, KEPT = 4, 2  # of a 2:4 pattern


def polynomial(progress: float, first: float, last: float, begin: float = 0.0, end: float = 1.0) -> float:
    """Sparsity at a progress of 0 to 1 (Zhu and Gupta 2017, arXiv:1710.01878, eq. 1): cubic from `first` at `begin` to
    `last` at `end`, fast while there is much to take."""
    along = min(max((progress - begin) / max(end - begin, 1e-9), 0.0), 1.0)
    return last + (first - last) * (1 - along) ** 3


def smallest(weight: NDArray, sparsity: float) -> NDArray[np.bool_]:
    """True for the round(sparsity * size) weights of least magnitude."""
    count = round(sparsity * weight.size)
    mask = np.zeros(weight.size, bool)
    mask[np.argsort(np.abs(weight).reshape(-1), kind="stable")[:count]] = True
    return mask.reshape(weight.shape)


def smallest_of_all(
    weights: Mapping[str, NDArray], sparsity: float, importance: str = "lamp", most: float = 0.99
) -> dict[str, NDArray[np.bool_]]:
    """As `smallest`, over all layers together, by magnitude or by `lamp`: magnitude squared, as a part of what squares
    are left in the layer with it (layer-adaptive magnitude, Lee et al. 2021, arXiv:2010.15964); it spares layers that
    are thin already. No layer loses more than `most` of its weights."""
    names = list(weights)
    scores, place = [], []
    for name in names:
        squares = np.square(weights[name].reshape(-1).astype(np.float64))
        order = np.argsort(squares, kind="stable")
        score = squares
        if importance == "lamp":
            left = np.cumsum(squares[order][::-1])[::-1]
            score = np.empty_like(squares)
            score[order] = squares[order] / np.maximum(left, 1e-300)
        kept = order[int(most * len(order)) :]
        score = score.copy()
        score[kept] = np.inf
        scores.append(score)
        place.append(len(score))
    joined = np.concatenate(scores) if scores else np.empty(0)
    count = min(round(sparsity * len(joined)), int(np.isfinite(joined).sum()))
    mask = np.zeros(len(joined), bool)
    mask[np.argsort(joined, kind="stable")[:count]] = True
    parts = np.split(mask, np.cumsum(place)[:-1])
    return {name: part.reshape(weights[name].shape) for name, part in zip(names, parts, strict=True)}


def two_of_four(weight: NDArray, axis: int) -> NDArray[np.bool_]:
    """True for the two smaller weights of every four along an axis; what is left of a size that is no multiple of four
    stays (Mishra et al. 2021, arXiv:2104.08378)."""
    moved = np.moveaxis(np.abs(weight), axis, -1)
    whole = moved.shape[-1] // GROUP * GROUP
    groups = moved[..., :whole].reshape(*moved.shape[:-1], -1, GROUP)
    order = np.argsort(groups, axis=-1, kind="stable")
    gone = np.zeros(groups.shape, bool)
    np.put_along_axis(gone, order[..., : GROUP - KEPT], True, axis=-1)
    mask = np.zeros(moved.shape, bool)
    mask[..., :whole] = gone.reshape(*moved.shape[:-1], whole)
    return np.moveaxis(mask, -1, axis)
