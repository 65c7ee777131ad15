"""Typed parameters: one frozen dataclass a node, declared to ROS with description, range and read-only flag.

@dataclass(frozen=True)
class TrackingParameters(NodeParameters):
    preset: str = parameter("edge_vision", "Tracker preset.", choices=("edge_vision", "bytetrack"))
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

P = TypeVar("P", bound="NodeParameters")
Scalar = bool | int | float | str


def parameter(
    default: Scalar,
    description: str,
    *,
    range: tuple[float, float] | None = None,
    choices: tuple[str, ...] | None = None,
    read_only: bool = False,
) -> Any:
    """A dataclass field that becomes a ROS parameter. `range` is inclusive at both ends."""
    metadata = {"description": description, "range": range, "choices": choices, "read_only": read_only}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class NodeParameters:
    """What every node has."""

    autostart: bool = parameter(True, "Configure and activate the node as soon as it starts.", read_only=True)
    input_mode: str = parameter(
        "latest",
        "latest: an input that comes while the node is busy replaces the one that waits (counted as dropped). "
        "every: each input is used, and a source in the same process waits for it.",
        choices=("latest", "every"),
        read_only=True,
    )


def _descriptor(field: dataclasses.Field) -> ParameterDescriptor:
    meta = field.metadata
    descriptor = ParameterDescriptor(description=meta["description"], read_only=meta["read_only"])
    # A YAML file says `1` where `1.0` is meant, and a command line `5` where a text is: take both, and convert below.
    descriptor.dynamic_typing = True
    if meta["choices"]:
        descriptor.additional_constraints = "one of: " + ", ".join(meta["choices"])
    if meta["range"]:
        low, high = meta["range"]
        if isinstance(field.default, float):
            descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
        else:
            descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
    return descriptor


def convert(field: dataclasses.Field, value: Any) -> Any:
    """`value` as the field's type, checked; ValueError says what is wrong and what would be right."""
    expected: type = type(field.default)
    meta = field.metadata
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if expected is str and isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)
    if value is False and "off" in (meta["choices"] or ()):
        value = "off"  # which YAML takes for a false
    if type(value) is not expected:
        raise ValueError(f"{field.name} must be {_name(expected)}, got {value!r} ({_name(type(value))})")
    if meta["choices"] and value not in meta["choices"]:
        raise ValueError(f"{field.name} must be one of {', '.join(meta['choices'])}; got {value!r}")
    if meta["range"]:
        low, high = meta["range"]
        if not low <= value <= high:
            raise ValueError(f"{field.name} {_allowed(field)}; got {value:g}")
    return value


def _allowed(field: dataclasses.Field) -> str:
    low, high = field.metadata["range"] or (-math.inf, math.inf)
    return f"must be in {low:g} .. {high:g}"


def _name(kind: type) -> str:
    return {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}.get(kind, kind.__name__)


def declare(node: Node, kind: type[P]) -> P:
    """Declares every field of `kind` on the node; returns the values in force. ValueError names a bad value."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        if field.metadata:
            try:
                declared = node.declare_parameter(field.name, field.default, _descriptor(field))
            except InvalidParameterValueException as error:  # out of the range that the descriptor gives
                raise ValueError(f"{field.name} {_allowed(field)}: {error}") from None
            values[field.name] = convert(field, declared.value)
    return kind(**values)


def changed(current: P, updates: list[Parameter]) -> P:
    """`current` with the updates that concern it; ValueError says why one is refused."""
    fields = {field.name: field for field in dataclasses.fields(current)}
    values: dict[str, Any] = {}
    for update in updates:
        field = fields.get(update.name)
        if field is not None:
            values[field.name] = convert(field, update.value)
    return dataclasses.replace(current, **values)
