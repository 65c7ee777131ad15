"""Which images of a split are looked at: in batches, as a sample, and those held out to watch a training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_vision.optimize.data import Split

SAMPLE = 64
"""Images that statistics are measured on."""


def hold_out(split: Split, share: float, seed: int = 0) -> tuple[Split, Split | None]:
    """Clips for training and clips to watch it by, about `share` of the images, drawn by `seed`. None where there are
    too few clips to part with one."""
    clips, counts = np.unique(split.sequences, return_counts=True)
    if share <= 0 or len(clips) < 2:
        return split, None
    order = np.random.default_rng([seed, 7]).permutation(len(clips))
    taken = np.cumsum(counts[order]) <= max(share * len(split), counts[order][0])
    held = np.isin(split.sequences, clips[order[taken]])
    if held.all() or not held.any():
        return split, None
    return split.part(~held), split.part(held)


def sample_of(split: Split) -> NDArray:
    """Indices of images from all over a split, for statistics."""
    return np.unique(np.linspace(0, len(split) - 1, min(SAMPLE, len(split))).astype(int))


def batches(indices: NDArray, size: int) -> list[NDArray]:
    return [indices[start : start + size] for start in range(0, len(indices), size)]
