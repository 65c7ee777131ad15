"""`edge_vision parameters`: what can be set on each node, and with --topics what each publishes and subscribes.

Parameters come from the nodes' dataclasses. Topics come from the nodes themselves: each is started for a moment, alone
and out of sight of other processes, and ROS is asked for them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

DESCRIPTION = "Prints every node's parameters: type, default, what is possible, whether they change live."

# What every rclpy node or lifecycle node has by itself.
_OF_ROS = ("/rosout", "/parameter_events", "/clock", "/transition_event")
_TYPES = {bool: "bool", int: "int", float: "float", str: "string"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from edge_vision.ros import registry  # the names alone, no ROS

    parser.add_argument("node", nargs="*", metavar="NODE", help=f"which of {', '.join(registry.NODES)} (default: all)")
    parser.add_argument(
        "--topics", action="store_true", help="also start each node for a moment and list what it publishes"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON")
    form.add_argument("--markdown", action="store_true", help="as docs/parameters.md")


def run(arguments: argparse.Namespace) -> int:
    try:
        nodes = describe(arguments.node)
        topics = topics_of([node["name"] for node in nodes]) if arguments.topics else {}
    except (ImportError, ValueError) as error:
        remedy = "; run scripts/setup.sh, then . scripts/env.sh" if isinstance(error, ImportError) else ""
        print(f"error: {error}{remedy}", file=sys.stderr)
        return 2
    for node in nodes:
        node.update(topics.get(node["name"], {}))
    if arguments.json:
        print(json.dumps(nodes, indent=2))
    else:
        print((markdown if arguments.markdown else text)(nodes), end="")
    return 0


def describe(names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Each node's name, description and parameters. ValueError for a name that is none, ImportError without ROS."""
    from edge_vision.ros import registry

    chosen = registry.ordered(list(names) or list(registry.NODES))
    return [
        {
            "name": name,
            "description": registry.NODES[name][2],
            "parameters": [
                _parameter(field)
                for field in dataclasses.fields(registry.node_class(name).parameters_type)
                if field.metadata
            ],
        }
        for name in chosen
    ]


def _parameter(field: dataclasses.Field) -> dict[str, Any]:
    meta = field.metadata
    return {
        "name": field.name,
        "type": _TYPES[type(field.default)],
        "default": field.default,
        "range": list(meta["range"]) if meta["range"] else None,
        "choices": list(meta["choices"]) if meta["choices"] else None,
        "live": not meta["read_only"],
        "description": meta["description"],
    }


def topics_of(names: Iterable[str]) -> dict[str, dict[str, list[list[str]]]]:
    """Node -> {"publishes": [[topic, type], ...], "subscribes": ...}, asked of nodes that run with their defaults."""
    import tempfile

    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "OFF"
    result = {}
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # the recorder makes its folder here
        try:
            for name in names:
                result[name] = _topics(name)
        finally:
            os.chdir(here)
    return result


def _topics(name: str) -> dict[str, list[list[str]]]:
    from edge_vision.ros import runtime
    from edge_vision.ros.container import Container

    runtime.initialise([name, "--ros-args", "--log-level", "error"])
    container = Container()
    try:
        node = container.add(name)
        container.start()
        where = node.get_name(), node.get_namespace()
        return {
            "publishes": _own(node.get_publisher_names_and_types_by_node(*where)),
            "subscribes": _own(node.get_subscriber_names_and_types_by_node(*where)),
        }
    finally:
        container.stop()


def _own(topics: Iterable[tuple[str, list[str]]]) -> list[list[str]]:
    """Relative names where they are in the node's namespace, which is the root here; all but /diagnostics are."""
    return sorted(
        [topic if topic == "/diagnostics" else topic.lstrip("/"), types[0].replace("/msg/", "/")]
        for topic, types in topics
        if not topic.endswith(_OF_ROS)
    )


# --- forms -----------------------------------------------------------------------------------------------------------


def text(nodes: Sequence[dict[str, Any]]) -> str:
    """For the terminal."""
    lines = []
    for node in nodes:
        lines.append(f"{node['name']}: {node['description']}")
        for verb in ("publishes", "subscribes"):
            lines += [f"  {verb} {topic} [{kind}]" for topic, kind in node.get(verb, ())]
        for p in node["parameters"]:
            possible = f", {_possible(p)}" if _possible(p) else ""
            lines.append(f"  {p['name']} = {_value(p['default'])}  ({p['type']}{possible}, {_when(p)})")
            lines.append(f"      {p['description']}")
        lines.append("")
    return "\n".join(lines)


def markdown(nodes: Sequence[dict[str, Any]]) -> str:
    """docs/parameters.md."""
    lines = [
        "# Nodes, topics and parameters",
        "",
        "Written by `edge_vision parameters --topics --markdown`; do not edit.",
        "",
        "Topics are relative to the node's namespace. *Live* parameters can change while the node runs "
        "(`ros2 param set`); the others are set at its start.",
    ]
    for node in nodes:
        lines += ["", f"## {node['name']}", "", f"{node['description'][0].upper()}{node['description'][1:]}.", ""]
        for verb in ("publishes", "subscribes"):
            topics = ", ".join(f"`{topic}` ({kind})" for topic, kind in node.get(verb, ()))
            lines += [f"{verb.capitalize()}: {topics}", ""] if topics else []
        lines += ["| parameter | type | default | possible | live | |", "|---|---|---|---|---|---|"]
        for p in node["parameters"]:
            cells = (
                f"`{p['name']}`", p["type"], f"`{_value(p['default'])}`", _possible(p), "yes" if p["live"] else "",
                p["description"],
            )  # fmt: skip
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _possible(p: dict[str, Any]) -> str:
    if p["choices"]:
        return ", ".join(p["choices"])
    return " .. ".join(f"{bound:.10g}" for bound in p["range"]) if p["range"] else ""


def _value(value: Any) -> str:
    return json.dumps(value) if isinstance(value, (bool, str)) else str(value)


def _when(p: dict[str, Any]) -> str:
    return "live" if p["live"] else "at start"
