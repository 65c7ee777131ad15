"""Typed parameters: what is taken, converted and refused, and what is declared to ROS."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import pytest
import rclpy
from rclpy.parameter import Parameter

from edge_vision.ros.parameters import NodeParameters, changed, convert, declare, parameter


@dataclass(frozen=True)
class Sample(NodeParameters):
    speed: float = parameter(0.5, "How fast.", range=(0.0, 2.0))
    count: int = parameter(3, "How many.", range=(1, 10))
    name: str = parameter("left", "Which.", choices=("left", "right", "7"))
    label: str = parameter("", "Free text.", read_only=True)
    loud: bool = parameter(False, "Whether.")


FIELDS = {field.name: field for field in dataclasses.fields(Sample)}


@pytest.mark.parametrize(
    ("name", "value", "taken"),
    [
        ("speed", 1, 1.0),
        ("speed", 2.0, 2.0),
        ("speed", 0, 0.0),
        ("count", 10, 10),
        ("name", "right", "right"),
        ("name", 7, "7"),
        ("label", 0.5, "0.5"),
        ("label", 0, "0"),
        ("loud", True, True),
    ],
)
def test_taken(name, value, taken) -> None:
    converted = convert(FIELDS[name], value)
    assert converted == taken
    assert type(converted) is type(taken)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("speed", 2.1, r"speed must be in 0 \.\. 2; got 2\.1"),
        ("speed", float("nan"), r"speed must be in 0 \.\. 2"),
        ("speed", "fast", r"speed must be a number, got 'fast' \(a text\)"),
        ("speed", True, r"speed must be a number, got True"),
        ("count", 0, r"count must be in 1 \.\. 10; got 0"),
        ("count", 2.0, r"count must be a whole number, got 2\.0"),
        ("count", False, r"count must be a whole number"),
        ("name", "up", r"name must be one of left, right, 7; got 'up'"),
        ("label", True, r"label must be a text, got True \(true or false\)"),
        ("loud", 1, r"loud must be true or false, got 1"),
        ("loud", [True], r"loud must be true or false"),
    ],
)
def test_refused(name, value, told) -> None:
    with pytest.raises(ValueError, match=told):
        convert(FIELDS[name], value)


def test_changes_are_all_or_nothing() -> None:
    old = Sample()
    new = changed(old, [Parameter("speed", value=1), Parameter("use_sim_time", value=True)])
    assert new == dataclasses.replace(old, speed=1.0)
    with pytest.raises(ValueError, match="count"):
        changed(old, [Parameter("speed", value=1.5), Parameter("count", value=99)])
    assert old == Sample()


@pytest.fixture
def make_node():
    """Makes nodes with parameters as a file or a command line gives them."""
    context = rclpy.Context()
    rclpy.init(context=context)
    nodes = []

    def make(**overrides: object) -> rclpy.node.Node:
        values = [Parameter(name, value=value) for name, value in overrides.items()]
        node = rclpy.create_node(f"sample{len(nodes)}", context=context, parameter_overrides=values)
        nodes.append(node)
        return node

    yield make
    for node in nodes:
        node.destroy_node()
    rclpy.try_shutdown(context=context)


def test_declared_with_description_range_and_choices(make_node) -> None:
    node = make_node()
    assert declare(node, Sample) == Sample()
    speed, count = node.describe_parameter("speed"), node.describe_parameter("count")
    assert speed.description == "How fast."
    assert (speed.floating_point_range[0].from_value, speed.floating_point_range[0].to_value) == (0.0, 2.0)
    assert (count.integer_range[0].from_value, count.integer_range[0].to_value) == (1, 10)
    assert "left, right, 7" in node.describe_parameter("name").additional_constraints
    assert node.describe_parameter("label").read_only
    assert not speed.read_only
    assert node.describe_parameter("autostart").description


def test_values_given_are_in_force_whatever_their_yaml_type(make_node) -> None:
    values = declare(make_node(speed=1, name=7, label=2.5, loud=True), Sample)
    assert values == Sample(speed=1.0, name="7", label="2.5", loud=True)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"speed": "fast"}, r"speed must be a number, got 'fast'"),
        ({"name": "up"}, r"name must be one of left, right, 7"),
        ({"count": 99}, r"count must be in 1 \.\. 10: .*99"),
    ],
)
def test_bad_values_given_are_refused_at_the_start(make_node, given, told) -> None:
    with pytest.raises(ValueError, match=told):
        declare(make_node(**given), Sample)
