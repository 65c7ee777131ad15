"""How far from fp32 ONNX Runtime a candidate may be, by precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace

from edge_vision.inference.bundle import PRECISIONS, Variant
from edge_vision.inference.errors import ModelError

KEY = "tolerance"
"""Under a variant's `measured` in model.yaml: the limits that its maker states for the file, by the names below."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Limits; None: not judged.

    matched: least share of matched boxes (`matching.Matches.share`); raw: largest difference of a raw output, as a
    share of the output's range; score: largest difference of the scores of a matched pair; map_drop: largest loss of
    mAP50-95 against the truth; agreement: least mAP50-95 with the reference's boxes as truth, judged where the frames
    come without a truth of their own.
    """

    matched: float | None = None
    raw: float | None = None
    score: float | None = None
    map_drop: float | None = None
    agreement: float | None = None

    def as_dict(self) -> dict[str, float]:
        """The limits that there are."""
        return {name: value for name, value in asdict(self).items() if value is not None}


NAMES = tuple(field.name for field in fields(Tolerance))

DEFAULTS: Mapping[str, Tolerance] = {
    "fp32": Tolerance(matched=0.99, raw=1e-3, score=0.01, map_drop=0.005, agreement=0.99),
    "fp16": Tolerance(matched=0.98, score=0.05, map_drop=0.005, agreement=0.98),
    "bf16": Tolerance(matched=0.98, score=0.05, map_drop=0.005, agreement=0.98),
    "int8": Tolerance(matched=0.90, map_drop=0.02, agreement=0.90),
}


def tolerance_of(precision: str, variant: Variant, changes: Mapping[str, float] | None = None) -> Tolerance:
    """The limits for a variant computed in `precision`: the defaults, changed by what the variant states, changed by
    `changes` (names as `matched`, or `int8.matched` for one precision alone).

    Raises ModelError for a statement in the bundle that is not right, ValueError for a wrong name in `changes`.
    """
    limits = DEFAULTS[precision]
    stated = variant.measured.get(KEY, {})
    if not isinstance(stated, Mapping) or set(stated) - set(NAMES) or not all(map(_number, stated.values())):
        problem = f"is {stated!r} for {variant.path.name}"
        raise ModelError(variant.path, problem, f"give numbers for some of {', '.join(NAMES)}", f"measured.{KEY}")
    limits = replace(limits, **{name: float(value) for name, value in stated.items()})
    for key, value in check_changes(changes or {}).items():
        asked, _, name = key.rpartition(".")
        if asked in ("", precision):
            limits = replace(limits, **{name: value})
    return limits


def check_changes(changes: Mapping[str, float]) -> Mapping[str, float]:
    """`changes` as they are. Raises ValueError, with the names known, for a name or precision that there is not."""
    for key in changes:
        precision, dot, name = key.rpartition(".")
        if name not in NAMES or (dot and precision not in PRECISIONS):
            raise ValueError(
                f"there is no tolerance {key!r}; known are {', '.join(NAMES)}, "
                f"for one precision alone with it in front ({', '.join(f'{p}.{NAMES[0]}' for p in PRECISIONS)})"
            )
    return changes


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
