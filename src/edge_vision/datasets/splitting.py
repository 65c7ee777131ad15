"""Splits by sequence: whole clips go to one side, as near to the wanted ratio and balance of classes as they allow.

Each sequence is a vector of counts (images, and objects of each class). They are dealt out largest first to where the
cost falls most (in the spirit of Sechidis et al. 2011, On the Stratification of Multi-Label Data, but for groups), then
moved and swapped while that helps. The cost of a split with counts x, wanted share r of totals N is the sum over
classes of (x - r N)^2 / (r N^2), images weighing as much as all classes together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_vision.datasets.description import Dataset
from edge_vision.datasets.errors import DatasetError

_MOST_SWAPPED = 400  # groups; beyond that single moves come close enough
_MOST_ROUNDS = 400
RATIO_TOLERANCE = 0.02
"""A split whose share of the images is further off than this is told of."""


@dataclass(frozen=True, slots=True)
class SplitResult:
    """A dataset with its new splits, and how near they came.

    wanted, reached: share of the images by split. sequences, images: counts by split. objects: by split, (C,) counts by
    class. notes: what could not be met, and why.
    """

    dataset: Dataset
    seed: int
    wanted: dict[str, float]
    reached: dict[str, float]
    sequences: dict[str, tuple[str, ...]]
    images: dict[str, int]
    objects: dict[str, tuple[int, ...]]
    notes: tuple[str, ...]


def split_dataset(dataset: Dataset, ratios: Mapping[str, float], seed: int = 0) -> SplitResult:
    """Deal the sequences of a dataset out to splits. ratios: share by split, in any unit (80, 20 or 0.8, 0.2).

    The same dataset, ratios and seed give the same splits. Raises DatasetError where there are fewer sequences than
    splits: frames of one clip are never dealt out.
    """
    wanted = {name: float(share) for name, share in ratios.items()}
    total = sum(wanted.values())
    if len(wanted) < 2 or not all(np.isfinite(share) and share > 0 for share in wanted.values()):
        raise DatasetError("ratios", f"cannot split by {dict(ratios)}", "give two splits or more, all above 0")
    wanted = {name: share / total for name, share in wanted.items()}
    members: dict[str, list[int]] = defaultdict(list)
    for index, sample in enumerate(dataset.samples):
        members[sample.sequence].append(index)
    if len(members) < len(wanted):
        raise DatasetError(
            dataset.path,
            f"{len(members)} sequences cannot be dealt out to {len(wanted)} splits, and frames of one clip must not be",
            "record more clips, ask for fewer splits, or tell by --group-by what belongs together",
        )
    # Shuffled from a sorted order, so that the order of reading changes nothing.
    names = sorted(members)
    names = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    counts = np.array([_counts(dataset, members[name]) for name in names], np.float64)
    assigned = _assign(counts, np.array(list(wanted.values())))
    split_of = {name: list(wanted)[k] for name, k in zip(names, assigned.tolist(), strict=True)}
    samples = tuple(replace(sample, split=split_of[sample.sequence]) for sample in dataset.samples)
    sums = {name: counts[assigned == k].sum(0).astype(int) for k, name in enumerate(wanted)}
    reached = {name: float(row[0]) / len(samples) for name, row in sums.items()}
    return SplitResult(
        dataset=replace(dataset, samples=samples),
        seed=seed,
        wanted=wanted,
        reached=reached,
        sequences={name: tuple(sorted(one for one in names if split_of[one] == name)) for name in wanted},
        images={name: int(row[0]) for name, row in sums.items()},
        objects={name: tuple(row[1:].tolist()) for name, row in sums.items()},
        notes=tuple(_notes(dataset, counts, sums, wanted, reached)),
    )


def _counts(dataset: Dataset, indices: list[int]) -> list[int]:
    ids = np.concatenate([dataset.samples[i].class_ids for i in indices])
    return [len(indices), *np.bincount(ids, minlength=len(dataset.labels)).tolist()]


def _assign(counts: NDArray[np.float64], share: NDArray[np.float64]) -> NDArray[np.int64]:
    """(G,) split of each group. counts (G, 1 + C): images, then objects by class; share (S,)."""
    present = counts.sum(0) > 0
    x = counts[:, present] / counts[:, present].sum(0)  # shares of the whole, (G, D)
    weight = np.ones(x.shape[1])
    weight[0] = max(1, x.shape[1] - 1)
    sums = np.zeros((len(share), x.shape[1]))
    assigned = np.full(len(x), -1)

    def cost(rows: NDArray[np.float64], k: NDArray[np.int64] | int) -> NDArray[np.float64]:
        part = share[k][..., None] if np.ndim(k) else share[k]
        return ((rows - part) ** 2 / part * weight).sum(-1)

    every = np.arange(len(share))
    empty = len(share)
    for g in np.argsort(-x.max(1), kind="stable").tolist():
        left = int((assigned < 0).sum())
        change = cost(sums + x[g], every) - cost(sums, every)
        unused = np.array([not (assigned == k).any() for k in every]) if empty else np.zeros(len(share), bool)
        if empty and left <= empty:
            change[~unused] = np.inf  # no split stays without a sequence
        k = int(np.argmin(change))
        empty -= int(bool(unused[k])) if empty else 0
        assigned[g] = k
        sums[k] += x[g]
    for _ in range(_MOST_ROUNDS):
        base = cost(sums, every)
        # Moves: (G, S) change of cost.
        without = cost(sums[assigned] - x, assigned) - base[assigned]
        gain = without[:, None] + cost(sums[None] + x[:, None], np.broadcast_to(every, (len(x), len(every)))) - base
        gain[np.arange(len(x)), assigned] = 0
        gain[np.bincount(assigned, minlength=len(share))[assigned] <= 1] = 0
        g, k = divmod(int(np.argmin(gain)), len(share))
        best_move = gain[g, k]
        best_swap, pair = 0.0, (0, 0)
        if len(x) <= _MOST_SWAPPED:
            for i in range(len(x)):
                a = assigned[i]
                moved = x[i] - x
                change = (
                    cost(sums[a] - moved, int(a)) - base[a] + cost(sums[assigned] + moved, assigned) - base[assigned]
                )
                change[assigned == a] = 0
                j = int(np.argmin(change))
                if change[j] < best_swap:
                    best_swap, pair = float(change[j]), (i, j)
        if min(best_move, best_swap) > -1e-9:
            break
        if best_move <= best_swap:
            sums[assigned[g]] -= x[g]
            sums[k] += x[g]
            assigned[g] = k
        else:
            i, j = pair
            a, b = assigned[i], assigned[j]
            sums[a] += x[j] - x[i]
            sums[b] += x[i] - x[j]
            assigned[i], assigned[j] = b, a
    return assigned


def _notes(
    dataset: Dataset, counts: NDArray, sums: dict[str, NDArray], wanted: dict[str, float], reached: dict[str, float]
) -> list[str]:
    notes = [
        f"{name}: {reached[name]:.1%} of the images instead of {wanted[name]:.1%}: the largest sequence alone is "
        f"{counts[:, 0].max() / counts[:, 0].sum():.1%}"
        for name in wanted
        if abs(reached[name] - wanted[name]) > RATIO_TOLERANCE
    ]
    for number, label in enumerate(dataset.labels):
        holders = int((counts[:, 1 + number] > 0).sum())
        missing = [name for name in wanted if not sums[name][1 + number]]
        if holders and missing:
            notes.append(f"{label}: in {holders} of {len(counts)} sequences, none of them in {', '.join(missing)}")
    return notes
