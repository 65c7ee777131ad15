"""A layer's weights as two to four thinner layers one after the other.

W is (O, I, kh, kw), a matrix (O, I, 1, 1). Ranks are what the thinner layers hand on:

* `svd`      (r, I, kh, kw), (O, r, 1, 1): the outputs' principal directions (Zhang et al. 2015, arXiv:1505.06798). With
             a covariance C of the inputs these are of W C W', which is what is seen of the outputs, not W W';
* `spatial`  (r, I, kh, 1), (O, r, 1, kw): separable filters (Jaderberg et al. 2014, arXiv:1405.3866);
* `tucker`   (r1, I, 1, 1), (r2, r1, kh, kw), (O, r2, 1, 1): Tucker-2 (Kim et al. 2016, arXiv:1511.06530), by tensorly;
* `cp`       (r, I, 1, 1), (r, 1, kh, 1), (r, 1, 1, kw), (O, r, 1, 1): the middle ones depthwise (Lebedev et al. 2015,
             arXiv:1412.6553), by tensorly.

The last three weigh input channels by what they carry (the diagonal of C).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

KINDS = ("svd", "spatial", "tucker", "cp")
Ranks = tuple[int, ...]


@dataclass(frozen=True)
class Factors:
    """weights: of the layers in their order, float32."""

    kind: str
    ranks: Ranks
    weights: tuple[NDArray[np.float32], ...]


class Factoring:
    """One layer's factorisations. moment: covariance (I kh kw, I kh kw) of its inputs, where a bias takes up what their
    mean makes, else E[x x']; None where all inputs count the same."""

    def __init__(self, weight: NDArray, moment: NDArray[np.float64] | None = None) -> None:
        self.weight = weight.astype(np.float64)
        self.moment = moment
        channels = self.weight.shape[1]
        self.scale = np.ones(channels)
        if moment is not None:
            carried = np.diag(moment).reshape(channels, -1).mean(1)
            self.scale = np.sqrt(np.maximum(carried, max(float(carried.mean()) * 1e-3, 1e-12)))
        self._spectra: dict[str, tuple[NDArray, ...]] = {}

    def error(self, weight: NDArray) -> float:
        """Squared error of the outputs with another weight, as a part of the outputs' squares."""
        return self._energy(self.weight - weight) / max(self._energy(self.weight), 1e-300)

    def most(self, kind: str) -> Ranks:
        """The ranks at which nothing is lost (of `cp`: beyond which there is no use)."""
        o, i, kh, kw = self.weight.shape
        if kind == "svd":
            return (min(o, i * kh * kw),)
        if kind == "spatial":
            return (min(i * kh, o * kw),)
        return (min(i, o * kh * kw), min(o, i * kh * kw)) if kind == "tucker" else (min(o, i) * max(kh, kw),)

    def errors(self, kind: str, ranks: list[Ranks]) -> list[float]:
        """`error` at these ranks; of `tucker` as the truncated core tells, before its factors are refined."""
        if kind == "svd":
            energies = self._svd()[1]
            left = 1 - np.cumsum(energies) / max(float(energies.sum()), 1e-300)
            return [max(float(left[r - 1]), 0.0) for (r,) in ranks]
        if kind == "tucker":
            core = np.square(self._core()[0])
            kept = core.sum(axis=(2, 3)).cumsum(0).cumsum(1)  # (r2, r1)
            return [max(1 - float(kept[b - 1, a - 1] / max(kept[-1, -1], 1e-300)), 0.0) for a, b in ranks]
        return [self.error(assembled(self.factors(kind, one))) for one in ranks]

    def factors(self, kind: str, ranks: Ranks) -> Factors:
        """The thinner layers at these ranks."""
        o, i, kh, kw = self.weight.shape
        if kind == "svd":
            directions = self._svd()[0][:, : ranks[0]]
            first = (directions.T @ self.weight.reshape(o, -1)).reshape(-1, i, kh, kw)
            return _factors(kind, ranks, first, directions[..., None, None])
        if kind == "spatial":
            left, values, right = (part[..., : ranks[0]] for part in self._spatial())
            root = np.sqrt(values)
            first = (left * root).T.reshape(-1, i, kh, 1) / self.scale[:, None, None]
            second = (right * root).reshape(o, kw, -1).transpose(0, 2, 1)[:, :, None, :]
            return _factors(kind, ranks, first, second)
        return self._tucker(ranks) if kind == "tucker" else self._cp(ranks[0])

    def _energy(self, weight: NDArray) -> float:
        flat = weight.reshape(len(weight), -1).astype(np.float64)
        return float(np.square(flat).sum() if self.moment is None else ((flat @ self.moment) * flat).sum())

    def _scaled(self) -> NDArray[np.float64]:
        return self.weight * self.scale[:, None, None]

    def _svd(self) -> tuple[NDArray, ...]:
        """Directions of the outputs (O, .) and the energy in each, the most first."""
        if "svd" not in self._spectra:
            flat = self.weight.reshape(len(self.weight), -1)
            seen = flat @ (flat.T if self.moment is None else self.moment @ flat.T)
            energies, directions = np.linalg.eigh((seen + seen.T) / 2)
            most = self.most("svd")[0]
            self._spectra["svd"] = directions[:, ::-1][:, :most], np.maximum(energies[::-1][:most], 0)
        return self._spectra["svd"]

    def _spatial(self) -> tuple[NDArray, ...]:
        """Left (I kh, .), values, right (O kw, .)."""
        if "spatial" not in self._spectra:
            o, i, kh, kw = self.weight.shape
            left, values, right = np.linalg.svd(
                self._scaled().transpose(1, 2, 0, 3).reshape(i * kh, o * kw), full_matrices=False
            )
            self._spectra["spatial"] = left, values, right.T
        return self._spectra["spatial"]

    def _core(self) -> tuple[NDArray, ...]:
        """Core (O, I, kh, kw) of the higher-order SVD of the first two modes, and their bases."""
        if "tucker" not in self._spectra:
            scaled = self._scaled()
            bases = []
            for mode in (0, 1):
                unfolded = np.moveaxis(scaled, mode, 0).reshape(scaled.shape[mode], -1)
                bases.append(np.linalg.eigh(unfolded @ unfolded.T)[1][:, ::-1])
            self._spectra["tucker"] = np.einsum("oihw,oa,ib->abhw", scaled, *bases, optimize=True), *bases
        return self._spectra["tucker"]

    def _tucker(self, ranks: Ranks) -> Factors:
        from tensorly.decomposition import partial_tucker

        (core, (outputs, inputs)), _ = partial_tucker(
            self._scaled(), rank=[ranks[1], ranks[0]], modes=[0, 1], init="svd", n_iter_max=50, tol=1e-6
        )
        first = (inputs / self.scale[:, None]).T
        return _factors("tucker", ranks, first[..., None, None], core, outputs[..., None, None])

    def _cp(self, rank: int) -> Factors:
        from tensorly.decomposition import parafac

        magnitude, parts = parafac(
            self._scaled(), rank=rank, init="random", random_state=0, n_iter_max=100, tol=1e-6, normalize_factors=True
        )
        share = np.power(np.maximum(magnitude, 0), 0.25)
        outputs, inputs, rows, columns = (part * share for part in parts)
        first = (inputs / self.scale[:, None]).T
        return _factors(
            "cp",
            (rank,),
            first[..., None, None],
            rows.T[:, None, :, None],
            columns.T[:, None, None, :],
            outputs[..., None, None],
        )


def _factors(kind: str, ranks: Ranks, *weights: NDArray) -> Factors:
    return Factors(kind, ranks, tuple(np.ascontiguousarray(weight, np.float32) for weight in weights))


def assembled(factors: Factors) -> NDArray[np.float64]:
    """(O, I, kh, kw): the one weight that the factors amount to."""
    parts = [weight.astype(np.float64) for weight in factors.weights]
    if factors.kind == "svd":
        return np.einsum("rihw,or->oihw", parts[0], parts[1][..., 0, 0], optimize=True)
    if factors.kind == "spatial":
        return np.einsum("rih,orw->oihw", parts[0][..., 0], parts[1][:, :, 0], optimize=True)
    if factors.kind == "tucker":
        return np.einsum("ai,bahw,ob->oihw", parts[0][..., 0, 0], parts[1], parts[2][..., 0, 0], optimize=True)
    first, rows, columns, last = parts
    return np.einsum(
        "ri,rh,rw,or->oihw", first[..., 0, 0], rows[:, 0, :, 0], columns[:, 0, 0], last[..., 0, 0], optimize=True
    )
