"""From a float network to its quantised graph: calibration chosen, and sensitive layers taken back, by measurement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_vision.optimize.data import Split
from edge_vision.optimize.graphs.running import tensors
from edge_vision.optimize.graphs.shapes import static_shapes
from edge_vision.optimize.graphs.view import View
from edge_vision.optimize.network import Network
from edge_vision.optimize.passes import Bar, Context, PassError
from edge_vision.optimize.quantisation.difference import Reference, decibels
from edge_vision.optimize.quantisation.lowering import lower
from edge_vision.optimize.quantisation.options import Quantisation, activation_type, saturates
from edge_vision.optimize.quantisation.placement import Placement, place, small_ends
from edge_vision.optimize.quantisation.preparing import prepare
from edge_vision.optimize.quantisation.qdq import Form, Quantised, write
from edge_vision.optimize.quantisation.ranges import METHODS, Ranges, measure_ranges

_SENSITIVITY_IMAGES = 8


@dataclass(frozen=True)
class Result:
    """proto: the QDQ graph, with its full names. heads: tensors of the float graph that lead to the decode tail; names:
    what those of the float graph are called in `proto`, where that differs. facts, refused: as of an `Outcome`."""

    proto: onnx.ModelProto
    heads: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    refused: tuple[str, ...] = ()


def quantised_graph(
    network: Network,
    options: Quantisation,
    context: Context,
    *,
    weights_as: Literal["float", "int8"] = "int8",
    name: str = "int8",
) -> Result:
    """The network as a QDQ graph; `small.finish` makes the file to ship of it.

    weights_as: `int8` initialisers, or `float` ones that pass a QuantizeLinear and DequantizeLinear, with float biases:
    what training needs. name: of the pass, for errors.

    Raises PassError where the graph cannot be quantised (open sizes, quantised already, nothing to quantise) or there
    are no calibration images.
    """
    calibration = calibration_split(name, context)
    proto = prepare(name, network.proto)
    view = View(proto)
    _check_names(name, view, options)
    done = lower(proto, place(view, options.float_layers).heads) if options.lower else ()
    view = View(proto)
    chosen, held_back = chosen_images(calibration, options.images)
    used, held = (tensors(calibration.images[indices], network.input) for indices in (chosen, held_back))
    check_fit(name, proto, used)
    ends = small_ends(view, static_shapes(proto))
    placement = place(view, options.float_layers, ends=ends, int8_heads=options.heads == "int8")
    if not placement.layers:
        reasons = "; ".join(f"{layer}: {why}" for layer, why in placement.refused.items())
        raise PassError(
            name, f"no layer can be quantised ({reasons or 'all are in float_layers'})", "leave this pass out"
        )
    form = Form(
        activation_type(options.activations),
        7 if options.reduce_range == "yes" or (options.reduce_range == "auto" and saturates()) else 8,
        options.per_channel,
        float_weights=weights_as == "float",
    )
    result = _Search(proto, view, placement, ends, form, options, context, network).run(used, held)
    return replace(result, facts={**result.facts, "lowered": list(done)})


class _Search:
    def __init__(
        self,
        proto: onnx.ModelProto,
        view: View,
        placement: Placement,
        ends: tuple[str, ...],
        form: Form,
        options: Quantisation,
        context: Context,
        network: Network,
    ) -> None:
        self.proto = proto
        self.view = view
        self.placement = placement
        self.ends = ends
        self.form = form
        self.options = options
        self.context = context
        self.pixels_range = _pixels_range(network)

    def run(self, used: NDArray, held: NDArray) -> Result:
        options, placement = self.options, self.placement
        methods = METHODS if options.calibration == "auto" else (options.calibration,)
        bar = self.context.bar("calibrating", len(methods) * len(used))
        candidates = {method: self._ranges(used, method, bar) for method in methods}
        bar.close()
        reference = Reference(self.proto, placement.heads, held, self.context.threads)
        errors = {method: reference.error(self._write(placement, ranges)) for method, ranges in candidates.items()}
        method = min(errors, key=lambda m: errors[m])
        facts: dict[str, Any] = {
            "calibration": method,
            "calibration_images": len(used),
            "held_back_images": len(held),
            "error_by_calibration": {m: round(e, 6) for m, e in errors.items()},
            "activations": self.form.activations,
            "weight_bits": self.form.weight_bits,
        }
        taken_back: dict[str, float] = {}
        if options.fallback == "auto" and errors[method] > options.max_error:
            placement, taken_back, sensitivity = self._fall_back(candidates[method], held, errors[method], reference)
            facts["sensitivity"] = {layer: round(error, 6) for layer, error in sensitivity.items()}
        found = self._write(placement, candidates[method])
        error = reference.error(found)
        float_layers = [layer.name for layer in self.view.layers if layer.name not in _names(placement)]
        facts |= {
            "error": round(error, 6),
            "sqnr_db": round(decibels(error), 2),
            "max_error": options.max_error,
            "within_max_error": error <= options.max_error,
            "int8_layers": len(placement.layers),
            "float_layers": float_layers,
            "taken_back": {layer: round(value, 6) for layer, value in taken_back.items()},
            "one_scale_for_clusters": list(found.per_tensor),
        }
        refused = [f"{layer}: {why}" for layer, why in placement.refused.items()]
        refused += [f"{layer}: float again, alone it gave an error of {e:.4f}" for layer, e in taken_back.items()]
        return Result(found.proto, placement.heads, found.names, facts, tuple(refused))

    def _write(self, placement: Placement, ranges: Ranges) -> Quantised:
        return write(self.proto, placement, ranges, self.form)

    def _ranges(self, used: NDArray, method: str, bar: Bar) -> Ranges:
        ranges = measure_ranges(
            self.proto, self._measured(), used, method, percentile=self.options.percentile, progress=bar.update
        )
        if self.placement.image in ranges and not self.placement.pixels and self.pixels_range:
            ranges[self.placement.image] = self.pixels_range  # known, not measured
        return ranges

    def _fall_back(
        self, ranges: Ranges, held: NDArray, error: float, reference: Reference
    ) -> tuple[Placement, dict[str, float], dict[str, float]]:
        """The placement without the most sensitive layers, those with their errors, and the errors of all: what each
        layer gives when it alone is quantised."""
        everything = _names(self.placement)
        few = Reference(self.proto, self.placement.heads, held[:_SENSITIVITY_IMAGES], self.context.threads)
        bar = self.context.bar("sensitivity", len(everything))
        sensitivity: dict[str, float] = {}
        for layer in everything:
            alone = [*self.options.float_layers, *(other for other in everything if other != layer)]
            sensitivity[layer] = few.error(self._write(self._placed(alone), ranges))
            bar.update()
        bar.close()
        order = sorted(everything, key=lambda layer: -sensitivity[layer])
        best, placement, count = error, self.placement, 0
        for taken in range(1, int(len(order) * self.options.most_float) + 1):
            tried = self._placed([*self.options.float_layers, *order[:taken]])
            if not tried.layers:
                break
            found = reference.error(self._write(tried, ranges))
            if found < best:
                best, placement, count = found, tried, taken
            if found <= self.options.max_error:
                break
        return placement, {layer: sensitivity[layer] for layer in order[:count]}, sensitivity

    def _measured(self) -> list[str]:
        """Tensors that have a scale, or would have one if layers were taken back to float: with its maker float, a
        tensor no longer shares another's scale."""
        names = dict.fromkeys(self.placement.tensors)
        if self.options.fallback == "auto":
            everything = _names(self.placement)
            for layer in everything:
                names |= dict.fromkeys(self._placed([*self.options.float_layers, layer]).tensors)
                others = [other for other in everything if other != layer]
                names |= dict.fromkeys(self._placed([*self.options.float_layers, *others]).tensors)
        return list(names)

    def _placed(self, excluded: list[str]) -> Placement:
        """Where these stay float."""
        placement = place(self.view, excluded, ends=self.ends, int8_heads=self.options.heads == "int8")
        return replace_heads(placement, self.placement)


def replace_heads(placement: Placement, whole: Placement) -> Placement:
    """The heads are those of the whole network, also where a head's layer is float now."""
    return replace(placement, heads=whole.heads)


def _names(placement: Placement) -> tuple[str, ...]:
    return tuple(layer.name for layer in placement.layers.values())


def calibration_split(name: str, context: Context) -> Split:
    """The calibration images. Raises PassError, of pass `name`, where there are none."""
    if context.data is None:
        raise PassError(
            name,
            "there are no calibration images",
            "name a dataset (--data): a hundred images as the camera sees them do, labels are not needed",
        )
    if len(context.data.calibration) == 0:
        raise PassError(
            name,
            f"the calibration split of '{context.data.name}' is empty",
            "give a dataset with more clips, or name one for the split",
        )
    return context.data.calibration


def chosen_images(split: Split, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the images to calibrate with and of those held back, of other clips where there are several."""
    clips = np.unique(split.sequences)
    indices = np.arange(len(split))
    if len(clips) > 1:
        last = clips[-max(len(clips) // 4, 1) :]
        back = np.isin(split.sequences, last)
        used, held = indices[~back], indices[back]
    else:
        border = max(len(split) * 3 // 4, 1)
        used, held = indices[:border], indices[border:] if border < len(split) else indices
    return _spread(used, count), _spread(held, max(count // 4, 1))


def _spread(indices: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    if len(indices) <= count:
        return indices
    return indices[np.linspace(0, len(indices) - 1, count).round().astype(np.int64)]


def _check_names(name: str, view: View, options: Quantisation) -> None:
    known = {layer.name for layer in view.layers}
    for wanted in options.float_layers:
        if wanted not in known:
            raise PassError(
                name,
                f"float_layers names '{wanted}', which is no layer of the graph",
                f"its layers are {', '.join(sorted(known)[:12])}{', ...' if len(known) > 12 else ''}",
            )


def check_fit(name: str, proto: onnx.ModelProto, batch: NDArray) -> None:
    """Raises PassError where input tensors (N, ...) are not what the graph takes."""
    source = proto.graph.input[0]
    shape = tuple(dim.dim_value for dim in source.type.tensor_type.shape.dim)
    expected = onnx.helper.tensor_dtype_to_np_dtype(source.type.tensor_type.elem_type)
    if shape[1:] != batch.shape[1:] or shape[0] != 1 or batch.dtype != expected:
        raise PassError(
            name,
            f"calibration images are {batch.dtype} tensors of (1, {', '.join(map(str, batch.shape[1:]))}), "
            f"input '{source.name}' takes {expected} of {shape}",
            "let the bundle's input (width, height, layout, dtype) say what the graph takes, with a batch of 1",
        )


def _pixels_range(network: Network) -> tuple[float, float] | None:
    """What a float input can hold: pixels of 0..255, normalised."""
    spec = network.input
    if spec.dtype == "uint8":
        return None
    low = min((0 * spec.scale - mean) / std for mean, std in zip(spec.mean, spec.std, strict=False))
    high = max((255 * spec.scale - mean) / std for mean, std in zip(spec.mean, spec.std, strict=False))
    return low, high
