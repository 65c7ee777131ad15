"""How much of each layer is kept: forms with fewer multiply-accumulates, and the best of them under a budget."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge_vision.optimize.weights.factors import Factoring, Ranks

MOST_RANKS = 24  # that are looked at along each mode
CP_SHARES = (0.25, 0.5, 0.75)  # of the layer's MACs, at which CP, which takes long, is tried


@dataclass(frozen=True)
class Geometry:
    """Sizes of a layer's input and output in positions: rows and columns of a convolution; of a matrix, rows 1."""

    inputs: tuple[int, int]
    outputs: tuple[int, int]

    @property
    def places(self) -> int:
        return self.outputs[0] * self.outputs[1]


@dataclass(frozen=True)
class Form:
    """One way to have a layer: kind "" is as it is. macs, parameters: of its weights, without bias. error: of its
    outputs, see `Factoring.error`."""

    kind: str
    ranks: Ranks
    macs: int
    parameters: int
    error: float


def cost(kind: str, ranks: Ranks, shape: Sequence[int], geometry: Geometry) -> tuple[int, int]:
    """(multiply-accumulates, weights) of a kind at these ranks; "" for the layer as it is."""
    o, i, kh, kw = shape
    places = geometry.places
    if kind == "":
        return o * i * kh * kw * places, o * i * kh * kw
    r = ranks[0]
    if kind == "svd":
        weights = r * i * kh * kw + o * r
        return weights * places, weights
    between = geometry.outputs[0] * geometry.inputs[1]  # after the vertical filter, whose stride is vertical
    if kind == "spatial":
        return r * i * kh * between + o * r * kw * places, r * i * kh + o * r * kw
    before = geometry.inputs[0] * geometry.inputs[1]
    if kind == "tucker":
        s = ranks[1]
        return r * i * before + s * r * kh * kw * places + o * s * places, r * i + s * r * kh * kw + o * s
    return r * i * before + r * kh * between + r * kw * places + o * r * places, r * (i + kh + kw + o)


def forms_of(factoring: Factoring, geometry: Geometry, kinds: Sequence[str], multiple: int) -> list[Form]:
    """The layer as it is, and the forms with fewer multiply-accumulates, ranks in steps of `multiple`, that no other is
    better than in both error and multiply-accumulates; the most costly first."""
    shape = factoring.weight.shape
    whole = cost("", (), shape, geometry)
    found = [Form("", (), *whole, 0.0)]
    for kind in kinds:
        if kind != "svd" and shape[2] * shape[3] == 1:
            continue
        if kind in ("spatial", "cp") and 1 in shape[2:]:
            continue
        ranks = _ranks(factoring, geometry, kind, multiple, whole[0])
        cheaper = [r for r in ranks if cost(kind, r, shape, geometry)[0] < whole[0]]
        for one, error in zip(cheaper, factoring.errors(kind, cheaper), strict=True):
            found.append(Form(kind, one, *cost(kind, one, shape, geometry), error))
    return best_forms(found)


def _ranks(factoring: Factoring, geometry: Geometry, kind: str, multiple: int, whole: int) -> list[Ranks]:
    most = factoring.most(kind)
    steps = [list(range(multiple, top + 1, multiple * -(-top // (multiple * MOST_RANKS)))) or [top] for top in most]
    if kind != "cp":
        return list(itertools.product(*steps))
    wanted = []
    for share in CP_SHARES:
        fitting = [r for r in steps[0] if cost(kind, (r,), factoring.weight.shape, geometry)[0] <= share * whole]
        wanted += fitting[-1:]
    return [(r,) for r in dict.fromkeys(wanted)]


def best_forms(forms: Sequence[Form]) -> list[Form]:
    """The layer as it is, then those that no other has both a smaller error and fewer multiply-accumulates than, the
    most costly first."""
    kept = [next(form for form in forms if form.kind == "")]
    for form in sorted(forms, key=lambda form: (form.error, form.macs)):
        if form.macs < kept[-1].macs:
            kept.append(form)
    return kept


def by_energy(forms: Sequence[Form], energy: float) -> Form:
    """The cheapest form that keeps this share of the outputs' energy."""
    return min((form for form in forms if form.error <= 1 - energy + 1e-12), key=lambda form: form.macs)


def by_budget(layers: Mapping[str, Sequence[Form]], saving: float, unit: str) -> dict[str, Form]:
    """The form of each layer that together save `saving` multiply-accumulates (unit `macs`) or weights (`parameters`)
    at the least sum of errors: along each layer's lower convex hull, the steps with the least error for what they save
    are taken first. Saves as much as there is where that is less."""
    steps: list[tuple[float, str, int, float, Form]] = []
    found = {}
    for name, forms in layers.items():
        hull = _hull(forms, unit)
        found[name] = hull[0]
        for number, (old, new) in enumerate(itertools.pairwise(hull)):
            saved = getattr(old, unit) - getattr(new, unit)
            steps.append(((new.error - old.error) / saved, name, number, saved, new))
    total = 0.0
    for _, name, _, saved, form in sorted(steps, key=lambda step: step[:3]):
        if total >= saving:
            break
        found[name] = form
        total += saved
    return found


def _hull(forms: Sequence[Form], unit: str) -> list[Form]:
    """Corners of the lower convex hull of (cost, error), from the form as it is downwards."""
    points = sorted(forms, key=lambda form: (-getattr(form, unit), form.error))
    start = next(form for form in points if form.kind == "")
    hull = [start]
    for form in points:
        if getattr(form, unit) >= getattr(hull[-1], unit):
            continue
        while len(hull) > 1 and _slope(hull[-2], hull[-1], unit) >= _slope(hull[-2], form, unit):
            hull.pop()
        hull.append(form)
    return hull


def _slope(old: Form, new: Form, unit: str) -> float:
    """Error for what is saved."""
    return (new.error - old.error) / (getattr(old, unit) - getattr(new, unit))
