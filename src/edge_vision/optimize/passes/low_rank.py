"""Low-rank factorisation: a layer as two to four thinner ones with fewer multiply-accumulates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_vision.optimize.graphs.editing import constants_to_initialisers
from edge_vision.optimize.graphs.running import tensors
from edge_vision.optimize.graphs.shapes import DynamicShape, Shape, multiply_accumulates, static_shapes
from edge_vision.optimize.graphs.view import View
from edge_vision.optimize.network import Network
from edge_vision.optimize.passes import Context, Outcome, PassError
from edge_vision.optimize.weights.factors import Factoring, assembled
from edge_vision.optimize.weights.ranks import Form, Geometry, by_budget, by_energy, cost, forms_of
from edge_vision.optimize.weights.replacing import cannot_replace, four_axes, has_bias, replace, timed_pair
from edge_vision.optimize.weights.retraining import Retraining, retrained
from edge_vision.optimize.weights.selection import Chosen, Selection, choose, matches
from edge_vision.optimize.weights.statistics import Moments, input_moments

NAME = "low_rank"
SUMMARY = "layers as two or three thinner ones (SVD, separable filters, Tucker, CP) with fewer multiply-accumulates"
NEEDS: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Options(Retraining, Selection):
    """by: what decides the ranks: `macs` or `parameters`, of which the network keeps the share `budget`, each layer so
    much that the outputs' errors are least together; or `energy`, of which each layer's outputs keep that share. ranks:
    given for layers by name or regular expression, one number or, of `tucker`, two. kinds: of factorisation that are
    tried (weights.factors): svd, spatial, tucker, cp. multiple: ranks are multiples of it, as runtimes like them.

    importance: errors count by what the layers' `inputs` carry on `images` calibration images, all the same (`equal`),
    or `auto`: by inputs where there are images. measured: a layer is replaced only where that is faster in ONNX Runtime
    here, by the factor `faster` or more.

    With `epochs` the thinner network is trained. The other options choose layers and say how to train.
    """

    by: Literal["macs", "parameters", "energy"] = "macs"
    budget: float = 0.7
    energy: float = 0.95
    ranks: Mapping[str, int | tuple[int, ...]] = field(default_factory=dict)
    kinds: tuple[Literal["svd", "spatial", "tucker", "cp"], ...] = ("svd", "spatial", "tucker")
    multiple: int = 8
    importance: Literal["auto", "inputs", "equal"] = "auto"
    images: int = 64
    measured: bool = True
    faster: float = 1.05

    def __post_init__(self) -> None:
        Retraining.__post_init__(self)
        Selection.__post_init__(self)
        for name in ("budget", "energy"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give a share, above 0 and below 1")
        if not self.kinds or self.multiple < 1 or self.images < 1 or self.faster <= 0:
            raise ValueError("kinds must not be empty, multiple and images at least 1, faster above 0")


@dataclass(frozen=True)
class _Layer:
    chosen: Chosen
    factoring: Factoring
    geometry: Geometry
    forms: list[Form]
    moments: Moments | None

    def shift(self, whole: NDArray) -> NDArray[np.float64] | None:
        """(O,) what the outputs lack with another weight where the inputs are at their mean; None without a bias."""
        if self.moments is None or not has_bias(self.chosen):
            return None
        return (self.factoring.weight - whole).reshape(len(whole), -1) @ self.moments.mean


def apply(network: Network, options: Options, context: Context) -> Outcome:
    """The network with thinner layers in the place of those where it pays; others are `refused`. Raises PassError where
    none can be replaced, where sizes are open, and where importance or training lack data."""
    proto = network.copied_graph()
    constants_to_initialisers(proto)
    try:
        shapes = static_shapes(proto)
        whole = multiply_accumulates(proto, shapes)
    except DynamicShape as error:
        raise PassError(NAME, str(error), "run clean_up before, and give the input's size") from error
    chosen, refused = choose(proto, options)
    view = View(proto)
    reasons = {c.name: cannot_replace(c, view) for c in chosen}
    refused += [f"{name}: {reason}" for name, reason in reasons.items() if reason]
    chosen = [c for c in chosen if not reasons[c.name]]
    layers = _layers(proto, network, chosen, shapes, options, context)
    refused += [f"{c.name}: no thinner form has fewer multiply-accumulates" for c in chosen if c.name not in layers]
    if not layers:
        raise PassError(NAME, "no layer has a thinner form", "let more layers in: keep_first, least_size, multiple")
    found, times = _decided(layers, view, shapes, sum(whole.values()), options, context, refused)
    facts: dict[str, Any] = {"layers": {}}
    for name, form in found.items():
        layer = layers[name]
        factors = layer.factoring.factors(form.kind, form.ranks)
        amounts_to = assembled(factors)
        replace(proto, name, factors, layer.shift(amounts_to))
        facts["layers"][name] = {
            "kind": form.kind,
            "ranks": list(form.ranks),
            "macs": [layer.forms[0].macs, form.macs],
            "parameters": [layer.forms[0].parameters, form.parameters],
            "error": round(layer.factoring.error(amounts_to), 5),
            **({"ms": [round(ms, 4) for ms in times[name]]} if name in times else {}),
        }
    del proto.graph.value_info[:]
    onnx.checker.check_model(proto)
    after = multiply_accumulates(proto)
    facts["macs"] = [sum(whole.values()), sum(after.values())]
    facts["parameters"] = [_parameters(network.proto), _parameters(proto)]
    if options.by != "energy" and options.budget * facts[options.by][0] < facts[options.by][1]:
        share = facts[options.by][1] / facts[options.by][0]
        refused.append(
            f"budget: {options.by} are {share:.2f} of what they were, and {options.budget:.2f} was asked for"
        )
    if options.epochs:
        proto, training = retrained(network.with_graph(proto), options, context, [], NAME)
        facts |= training
    return Outcome(network.with_graph(proto), facts, tuple(refused))


def _layers(
    proto: onnx.ModelProto,
    network: Network,
    chosen: Sequence[Chosen],
    shapes: Mapping[str, Shape],
    options: Options,
    context: Context,
) -> dict[str, _Layer]:
    """Those with forms of fewer multiply-accumulates."""
    moments = _moments(network.with_graph(proto), chosen, options, context)
    bar = context.bar("factorising", len(chosen))
    found = {}
    for one in chosen:
        geometry = _geometry(one, shapes)
        seen = moments.get(one.name)
        moment = None if seen is None else seen.covariance if has_bias(one) else seen.second
        factoring = Factoring(four_axes(one), moment)
        forms = forms_of(factoring, geometry, options.kinds, options.multiple)
        given = next((r for pattern, r in options.ranks.items() if matches(one.name, [pattern])), None)
        if given is not None:
            forms = [forms[0], *_given(factoring, geometry, given, options)]
        if len(forms) > 1:
            found[one.name] = _Layer(one, factoring, geometry, forms, seen)
        bar.update(1)
    bar.close()
    return found


def _given(factoring: Factoring, geometry: Geometry, ranks: int | tuple[int, ...], options: Options) -> list[Form]:
    """The best form at these ranks."""
    wanted = (ranks,) if isinstance(ranks, int) else tuple(ranks)
    shape = factoring.weight.shape
    found = []
    for kind in options.kinds:
        most = factoring.most(kind)
        one = wanted * len(most) if len(wanted) == 1 else wanted
        if len(one) != len(most) or any(r > top for r, top in zip(one, most, strict=True)):
            continue
        if kind != "svd" and shape[2] * shape[3] == 1:
            continue
        found.append(Form(kind, one, *cost(kind, one, shape, geometry), factoring.errors(kind, [one])[0]))
    return sorted(found, key=lambda form: form.error)[:1]


def _decided(
    layers: Mapping[str, _Layer],
    view: View,
    shapes: Mapping[str, Shape],
    whole: int,
    options: Options,
    context: Context,
    refused: list[str],
) -> tuple[dict[str, Form], dict[str, tuple[float, float]]]:
    """The form of each layer that is replaced, and what the pairs took. Where a form turns out to be no faster, the
    layer stays, and the others are asked for more."""
    left = dict(layers)
    times: dict[str, tuple[float, float]] = {}
    timed: dict[tuple[str, str, tuple[int, ...]], tuple[float, float]] = {}
    while True:
        found = {name: form for name, form in _allocated(left, whole, view, options).items() if form.kind}
        if not options.measured:
            break
        slow = []
        for name, form in found.items():
            key = (name, form.kind, form.ranks)
            if key not in timed:
                timed[key] = _timed(left[name], form, view, shapes, context)
            before, after = times[name] = timed[key]
            if after * options.faster > before:
                slow.append(name)
                refused.append(f"{name}: no faster as {form.kind} {list(form.ranks)}: {before:.3f} -> {after:.3f} ms")
        if not slow:
            break
        left = {name: layer for name, layer in left.items() if name not in slow}
    others = [name for name in left if name not in found]
    refused += [f"{name}: kept whole, others lose less" for name in others if options.by != "energy"]
    refused += [f"{name}: needs its whole rank to keep its energy" for name in others if options.by == "energy"]
    return found, {name: times[name] for name in found if name in times}


def _allocated(layers: Mapping[str, _Layer], whole: int, view: View, options: Options) -> dict[str, Form]:
    given = {name: layer.forms[1] for name, layer in layers.items() if _is_given(name, options)}
    free = {name: layer.forms for name, layer in layers.items() if name not in given}
    if options.by == "energy":
        return given | {name: by_energy(forms, options.energy) for name, forms in free.items()}
    total = whole if options.by == "macs" else _parameters(view.proto)
    saved = sum(getattr(layers[n].forms[0], options.by) - getattr(form, options.by) for n, form in given.items())
    return given | by_budget(free, (1 - options.budget) * total - saved, options.by)


def _is_given(name: str, options: Options) -> bool:
    return any(matches(name, [pattern]) for pattern in options.ranks)


def _timed(layer: _Layer, form: Form, view: View, shapes: Mapping[str, Shape], context: Context) -> tuple[float, float]:
    factors = layer.factoring.factors(form.kind, form.ranks)
    bias = view.constant(layer.chosen.layer.bias) if layer.chosen.layer.bias else None
    shape = shapes[layer.chosen.layer.node.input[0]]
    return timed_pair(layer.chosen, bias, shape, factors, threads=context.threads or 1)


def _geometry(chosen: Chosen, shapes: Mapping[str, Shape]) -> Geometry:
    node = chosen.layer.node
    source, output = shapes[node.input[0]], shapes[node.output[0]]
    if chosen.weight.ndim == 4:
        return Geometry((source[2], source[3]), (output[2], output[3]))
    rows = int(np.prod(output[:-1]))
    return Geometry((1, rows), (1, rows))


def _moments(network: Network, chosen: Sequence[Chosen], options: Options, context: Context) -> dict[str, Moments]:
    none = context.data is None or not len(context.data.calibration)
    if options.importance == "equal" or (none and options.importance == "auto"):
        return {}
    if none or context.data is None:
        raise PassError(NAME, "importance: inputs needs calibration images", "give a data set, or importance: equal")
    images = context.data.calibration.images
    some = np.unique(np.linspace(0, len(images) - 1, min(options.images, len(images))).astype(int))
    bar = context.bar("inputs of layers", len(some))
    found = input_moments(
        network.proto,
        chosen,
        tensors(images[some], network.input),
        threads=context.threads,
        seed=context.seed,
        step=lambda: bar.update(1),
    )
    bar.close()
    return found


def _parameters(proto: onnx.ModelProto) -> int:
    return sum(
        int(np.prod(tensor.dims)) for tensor in proto.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT
    )
