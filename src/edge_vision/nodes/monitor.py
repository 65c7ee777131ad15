"""Statistics of all nodes under one namespace, on one topic and on the terminal."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

from edge_vision.datatypes import NodeStats
from edge_vision.msg import PipelineStats
from edge_vision.ros.adapters import node_stats_to_message
from edge_vision.ros.node import VisionNode
from edge_vision.ros.parameters import NodeParameters, parameter

_FORGET_S = 5.0


@dataclass(frozen=True)
class MonitorParameters(NodeParameters):
    terminal: bool = parameter(False, "Also print a line a second to standard error.")


class MonitorNode(VisionNode[MonitorParameters]):
    """node_stats of every node -> pipeline_stats."""

    parameters_type = MonitorParameters

    def configure(self) -> None:
        self._nodes: dict[str, NodeStats] = {}
        self._pipeline = self.create_publisher(PipelineStats, "pipeline_stats", 10)
        self.subscription(NodeStats, "node_stats", self.collect, counted=False)

    def cleanup(self) -> None:
        if hasattr(self, "_pipeline"):
            self.destroy_publisher(self._pipeline)

    def collect(self, stats: NodeStats) -> None:
        # Statistics out of a message have no stamp: they are as new as their coming.
        self._nodes[stats.node] = replace(stats, stamp=self.now_ns())

    def every_second(self) -> None:
        now = self.now_ns()
        everybody = tuple(self._nodes.values())  # at once: the worker thread writes to it
        known = [stats for stats in everybody if now - stats.stamp < _FORGET_S * 1e9]
        message = PipelineStats()
        message.header.stamp = self.get_clock().now().to_msg()
        message.nodes = [node_stats_to_message(stats) for stats in known]
        self._pipeline.publish(message)
        if self.parameters.terminal:
            print(line(known), file=sys.stderr, flush=True)


def line(nodes: list[NodeStats]) -> str:
    """One line: each node's rate, drops and slowest stage."""
    parts = []
    for stats in nodes:
        slowest = max(stats.stages, key=lambda stage: stage.p50_ms, default=None)
        stage = f" {slowest.stage} {slowest.p50_ms:.1f}/{slowest.p95_ms:.1f} ms" if slowest else ""
        parts.append(f"{stats.node} {stats.output_rate:.1f} Hz{stage} dropped {stats.dropped}")
    return " | ".join(parts)
