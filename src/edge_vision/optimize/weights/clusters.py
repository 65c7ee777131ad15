"""Few values for many weights: k-means in one dimension.

Values are told apart by their squared distance, each counted with its importance. The start is what decides (Han et al.
2016, arXiv:1510.00149, section 3.2; the names are those of TensorFlow's Model Optimization Toolkit): values in equal
steps keep the few large weights, equal shares of the weights keep the many small ones. In one dimension the best
clusters can be had outright (Wang and Song 2011, The R Journal 3/2), which is `optimal`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

INITIALISATIONS = ("optimal", "kmeans++", "linear", "density", "random")
BINS = 512  # that weights are first put into, to find the best clusters of
MANY = 1 << 15


def clustered(
    values: NDArray[np.float32],
    count: int,
    *,
    init: str = "optimal",
    importance: NDArray | None = None,
    keep_zeros: bool = False,
    seed: int = 0,
) -> NDArray[np.float32]:
    """`values` (n,) with each replaced by its centroid; at most `count` different ones.

    importance (n,): of each value's error, equal where None. keep_zeros: zeros stay, and zero is one of the count where
    there are any; no other value becomes zero.
    """
    zeros = values == 0
    if keep_zeros and zeros.any():
        found = np.zeros_like(values)
        if not zeros.all():
            weights = None if importance is None else importance[~zeros]
            rest = clustered(values[~zeros], max(count - 1, 1), init=init, importance=weights, seed=seed)
            found[~zeros] = np.where(rest == 0, np.finfo(np.float32).tiny, rest)
        return found
    distinct = np.unique(values)
    if len(distinct) <= count:
        return values.copy()
    start = initial_centroids(values, count, init, importance, seed)
    return lloyd(values, start, importance)


def initial_centroids(
    values: NDArray[np.float32], count: int, init: str, importance: NDArray | None = None, seed: int = 0
) -> NDArray[np.float64]:
    """(count,) starting values, sorted. Raises ValueError for an initialisation that there is not."""
    rng = np.random.default_rng(seed)
    low, high = float(values.min()), float(values.max())
    if init == "linear":
        found = np.linspace(low, high, count)
    elif init == "density":  # of equal shares of the weights
        found = np.quantile(values, (np.arange(count) + 0.5) / count)
    elif init == "random":
        found = rng.choice(np.unique(values), count, replace=False)
    elif init == "kmeans++":
        from sklearn.cluster import kmeans_plusplus

        found, _ = kmeans_plusplus(
            values.reshape(-1, 1).astype(np.float64), count, sample_weight=importance, random_state=seed
        )
    elif init == "optimal":
        found = best_centroids(values, count, importance)
    else:
        raise ValueError(f"init is {init!r}; it can be {', '.join(INITIALISATIONS)}")
    return np.sort(np.asarray(found, np.float64).reshape(-1))


def lloyd(
    values: NDArray[np.float32], centroids: NDArray[np.float64], importance: NDArray | None = None, rounds: int = 100
) -> NDArray[np.float32]:
    """Each value's centroid, after Lloyd's iterations from `centroids`; one that no value is nearest to is dropped. Of
    more than `MANY` values the centroids are found on their means in as many steps."""
    from sklearn.cluster import KMeans

    exact = values.astype(np.float64)
    points, weight = exact, importance
    if len(values) > MANY:
        mass, first, _ = binned(exact, MANY, importance)
        points, weight = first[mass > 0] / mass[mass > 0], mass[mass > 0]
    start = np.unique(centroids)
    means = KMeans(len(start), init=start.reshape(-1, 1), n_init=1, max_iter=rounds, tol=0.0, algorithm="lloyd")
    found = np.sort(means.fit(points.reshape(-1, 1), sample_weight=weight).cluster_centers_.reshape(-1))
    nearest = np.searchsorted((found[1:] + found[:-1]) / 2, exact)
    return found.astype(np.float32)[nearest]


def binned(values: NDArray[np.float64], bins: int, importance: NDArray | None) -> tuple[NDArray, NDArray, NDArray]:
    """(bins,) each: importance, and with it the sums of values and of their squares, of equal steps of the range."""
    low, high = float(values.min()), float(values.max())
    place = np.minimum(((values - low) / max(high - low, 1e-30) * bins).astype(np.int64), bins - 1)
    weight = np.ones(len(values)) if importance is None else importance.astype(np.float64)
    mass, first, second = (np.bincount(place, w, bins) for w in (weight, weight * values, weight * values * values))
    return mass, first, second


def best_centroids(values: NDArray[np.float32], count: int, importance: NDArray | None = None) -> NDArray[np.float64]:
    """The centroids of least total error, of the values in `BINS` equal steps: dynamic programming over where one
    cluster ends and the next begins, with the error of each from running sums."""
    parts = binned(values.astype(np.float64), BINS, importance)
    used = parts[0] > 0
    m, f, s = (np.concatenate([[0.0], np.cumsum(part[used])]) for part in parts)
    bins = int(used.sum())
    count = min(count, bins)

    mass = m[None, :] - m[:, None]
    total = f[None, :] - f[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):  # [begin, end]: the error of one cluster of these bins
        errors = np.where(mass > 0, s[None, :] - s[:, None] - total * total / mass, np.inf)
    best = errors[0]
    back = np.zeros((count, bins + 1), np.int64)
    for k in range(1, count):
        costs = best[:, None] + errors
        back[k] = np.argmin(costs, axis=0)
        best = np.take_along_axis(costs, back[k][None, :], axis=0)[0]
    found, end = [], bins
    for k in range(count - 1, -1, -1):
        begin = int(back[k, end])
        found.append((f[end] - f[begin]) / (m[end] - m[begin]))
        end = begin
    return np.array(found[::-1])


def error(values: NDArray, centroids: NDArray) -> float:
    """Squared error of replaced values, as a part of the values' squares."""
    apart = np.square(values.astype(np.float64) - centroids.astype(np.float64)).sum()
    return float(apart / max(np.square(values.astype(np.float64)).sum(), 1e-300))
