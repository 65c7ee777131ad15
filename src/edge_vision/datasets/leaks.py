"""Leaks between splits: clips that are in two of them, and near-duplicate frames.

Near-duplicates are proposed by hashes (`hashing`, at most HASH_BITS apart, the few nearest of each image) and confirmed
by a second look at 64 x 64 thumbnails from which the median picture of the set is taken, so that what a fixed camera
sees all day does not make two frames alike: normalised correlation of at least CORRELATION at the best shift of up to
SHIFT thumbnail pixels, or no 5 x 5 mean that differs by more than SAME grey levels. Pairs of a correlation
of ALIGNED_FROM or more have one brought over the other (crops, zooms, turns) and are compared once more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.datasets.description import Dataset
from edge_vision.datasets.hashing import coefficients, nearest, plain_hashes, relative_hashes, thumbnails

HASH_BITS = 14
NEAREST = 4
CORRELATION = 0.9
SHIFT = 3
SAME = 4.0
ALIGNED_FROM = 0.5
_FLAT = 1.5  # grey levels of standard deviation below which correlation compares noise
_FEWEST = 20  # images from which on a median picture tells what all of them share


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """Two samples (places in the dataset) that show the same: bits apart, correlation, largest difference in DN."""

    first: int
    second: int
    bits: int
    correlation: float
    difference: float


@dataclass(frozen=True, slots=True)
class LeakReport:
    """What leaks between splits.

    shared: sequences that are in several splits, with images by split. pairs: near-duplicates across splits, the most
    alike first. leaking: by split other than the first (training), how many of its images have a near-duplicate in
    a split before it; checked: how many images there were. undecodable: images whose pixels could not be read.
    """

    splits: tuple[str, ...]
    shared: dict[str, dict[str, int]]
    pairs: tuple[NearDuplicate, ...]
    leaking: dict[str, int]
    checked: dict[str, int]
    undecodable: tuple[str, ...]

    @property
    def clean(self) -> bool:
        return not self.shared and not self.pairs


def find_leaks(
    dataset: Dataset, advance: Callable[[int], None] | None = None, correlation: float = CORRELATION
) -> LeakReport:
    """Sequences and near-duplicate frames that are in more than one split. advance: called with 1 for every image."""
    splits = dataset.splits
    shared: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for sample in dataset.samples:
        shared[sample.sequence][sample.split] += 1
    small, broken = thumbnails([sample.image for sample in dataset.samples], advance)
    number = {name: k for k, name in enumerate(splits)}
    groups = np.array([number.get(sample.split, -1) for sample in dataset.samples])
    pairs = near_duplicates(small, groups, set(broken), correlation) if len(splits) > 1 else ()
    later: dict[str, set[int]] = {name: set() for name in splits[1:]}
    for pair in pairs:
        one = max(pair.first, pair.second, key=lambda i: groups[i])
        if min(groups[pair.first], groups[pair.second]) >= 0:
            later[splits[groups[one]]].add(one)
    return LeakReport(
        splits=splits,
        shared={name: dict(sorted(counts.items())) for name, counts in sorted(shared.items()) if len(counts) > 1},
        pairs=pairs,
        leaking={name: len(images) for name, images in later.items()},
        checked={name: int((groups == k).sum()) for k, name in enumerate(splits)},
        undecodable=tuple(str(dataset.samples[i].image) for i in broken),
    )


def near_duplicates(
    small: NDArray[np.uint8],
    groups: NDArray[np.int64],
    broken: set[int] | frozenset[int] = frozenset(),
    correlation: float = CORRELATION,
) -> tuple[NearDuplicate, ...]:
    """Near-duplicates between thumbnails (N, 64, 64) of different groups (N,), the most alike first."""
    proposed = _proposed(small, groups)
    background = np.zeros(small.shape[1:], np.float32)
    if len(small) >= _FEWEST:
        background = np.median(small[:: max(1, len(small) // 1000)], axis=0).astype(np.float32)

    def look(proposal: tuple[tuple[int, int], int]) -> NearDuplicate | None:
        (i, j), bits = proposal
        alike, difference = compare(small[i], small[j], background)
        if ALIGNED_FROM <= alike < correlation and difference > SAME:
            alike, difference = compare(small[i], aligned(small[i], small[j]), background)
        return NearDuplicate(i, j, bits, alike, difference) if alike >= correlation or difference <= SAME else None

    whole = [one for one in sorted(proposed.items()) if not broken.intersection(one[0])]
    with ThreadPoolExecutor(2) as pool:  # OpenCV lets go of the interpreter
        found = [pair for pair in pool.map(look, whole) if pair is not None]
    return tuple(sorted(found, key=lambda pair: (-pair.correlation, pair.first, pair.second)))


def compare(a: NDArray[np.uint8], b: NDArray[np.uint8], background: NDArray[np.float32]) -> tuple[float, float]:
    """Normalised correlation at the best shift (0 where either shows nothing but the background), and the largest
    difference of a 5 x 5 mean in DN, brightness and contrast of one brought to those of the other."""
    first, second = a.astype(np.float32), b.astype(np.float32)
    spread, other = float(first.std()), float(second.std())
    if min(spread, other) > _FLAT and 0.5 < spread / other < 2.0:
        second = (second - second.mean()) * (spread / other) + first.mean()
    difference = float(np.abs(cv2.blur(first - second, (5, 5))).max())
    outer, inner = cv2.blur(first - background, (3, 3)), cv2.blur(second - background, (3, 3))
    if min(outer.std(), inner.std()) < _FLAT:
        return 0.0, difference
    inner = np.ascontiguousarray(inner[SHIFT:-SHIFT, SHIFT:-SHIFT])
    return float(cv2.matchTemplate(outer, inner, cv2.TM_CCOEFF_NORMED).max()), difference


def aligned(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``b`` brought over ``a`` by the affine map of Evangelidis and Psarakis 2008 (ECC); ``b`` itself where there is
    none, or one that moves a corner by more than an eighth of the picture: that would be another one."""
    side = a.shape[0]
    start = np.eye(2, 3, dtype=np.float32)
    ends = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 25, 1e-3)
    try:
        _, warp = cv2.findTransformECC(a, b, start, cv2.MOTION_AFFINE, ends, None, 5)  # type: ignore[call-overload]
    except cv2.error:
        return b
    corners = np.array([[0, 0, 1], [side, 0, 1], [0, side, 1], [side, side, 1]], np.float32)
    if np.abs(corners @ warp.T - corners[:, :2]).max() > side / 8:
        return b
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(b, warp, (side, side), flags=flags, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def _proposed(small: NDArray[np.uint8], groups: NDArray[np.int64]) -> dict[tuple[int, int], int]:
    """Pairs i < j of different groups whose hashes are near, and how many bits they are apart."""
    dct = coefficients(small)
    kinds = [plain_hashes(dct)]
    if len(small) >= _FEWEST:
        kinds.append(relative_hashes(dct))
    proposed: dict[tuple[int, int], int] = {}
    for hashes in kinds:
        found = nearest(hashes, hashes, NEAREST, HASH_BITS, (groups, groups))
        for i, j, bits in zip(*(one.tolist() for one in found), strict=True):
            pair = (i, j) if i < j else (j, i)
            proposed[pair] = min(bits, proposed.get(pair, 64))
    return proposed


def join_sequences(
    dataset: Dataset, advance: Callable[[int], None] | None = None
) -> tuple[dict[str, str], tuple[NearDuplicate, ...]]:
    """Sequences that hold near-duplicates of each other: name to the name of the group that it has to stay in.

    For splitting: two recordings of one thing are one sequence, whatever their files are called.
    """
    names = sorted({sample.sequence for sample in dataset.samples})
    place = {name: k for k, name in enumerate(names)}
    groups = np.array([place[sample.sequence] for sample in dataset.samples])
    small, broken = thumbnails([sample.image for sample in dataset.samples], advance)
    pairs = near_duplicates(small, groups, set(broken))
    parent = list(range(len(names)))

    def root(k: int) -> int:
        while parent[k] != k:
            parent[k] = parent[parent[k]]
            k = parent[k]
        return k

    for pair in pairs:
        a, b = sorted((root(int(groups[pair.first])), root(int(groups[pair.second]))))
        parent[b] = a
    return {name: names[root(k)] for name, k in place.items()}, pairs
