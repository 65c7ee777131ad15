"""Writes what the pipeline makes: overlay.mp4, detections.json, tracks.csv, summary.json; and a progress line."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

from edge_vision.datatypes import Detections, Frame, NodeStats, Tracks
from edge_vision.evaluation.formats import OutputError
from edge_vision.evaluation.recording import Recording
from edge_vision.ros.node import VisionNode
from edge_vision.ros.parameters import NodeParameters, parameter


@dataclass(frozen=True)
class RecorderParameters(NodeParameters):
    output: str = parameter("output", "Folder for the files; made where it is not there.", read_only=True)
    progress: bool = parameter(False, "Show a progress line on standard error.", read_only=True)
    total: int = parameter(
        0, "Frames to come, for the progress line; 0: unknown.", range=(0, 2**31 - 1), read_only=True
    )


class RecorderNode(VisionNode[RecorderParameters]):
    """image_raw, overlay, detections, tracks, ground_truth -> files."""

    parameters_type = RecorderParameters

    def configure(self) -> None:
        self.recording = Recording(self.parameters.output)
        self._closed = False
        self._problems: list[str] = []
        self._shown = 0.0
        self.subscription(Frame, "image_raw", self.recording.add_frame, every=True)
        self.subscription(Frame, "overlay", self._guard(self.recording.add_overlay), every=True, counted=False)
        self.subscription(Tracks, "ground_truth", self.recording.add_truth, counted=False)
        self.subscription(Detections, "detections", self._guard(self.recording.add_detections), counted=False)
        self.subscription(Tracks, "tracks", self._guard(self._add_tracks), counted=False)

    def deactivate(self) -> None:
        if self._closed:
            return
        self._closed = True
        nodes = {node.get_name(): node for node in self.container.nodes}
        extra: dict = {
            "ended": self.container.reason,
            "nodes": {name: {"statistics": _plain(node.statistics()), **node.status()} for name, node in nodes.items()},
        }
        if self._problems:
            extra["problems"] = self._problems
        if self.parameters.progress:
            self._show(last=True)
        self.recording.close(extra)

    def cleanup(self) -> None:
        if hasattr(self, "recording") and not self._closed:
            self._closed = True
            self.recording.close()

    def _guard(self, add):  # type: ignore[no-untyped-def]
        """`add`, whose failing files fail the run in the end but stop nothing now."""

        def guarded(item: object) -> None:
            try:
                add(item)
            except OutputError as error:
                self._problems.append(str(error))
                self.get_logger().error(str(error))
                self.set_problem(str(error))
                self.container.fail(1)

        return guarded

    def _add_tracks(self, tracks: Tracks) -> None:
        self.recording.add_tracks(tracks)
        if self.parameters.progress:
            self._show()

    def _show(self, last: bool = False) -> None:
        terminal = sys.stderr.isatty()
        now = time.monotonic()
        if not last and now - self._shown < (0.2 if terminal else 5.0):
            return
        self._shown = now
        end = "\n" if last or not terminal else ""
        print(("\r\x1b[K" if terminal else "") + self._progress(), end=end, file=sys.stderr, flush=True)

    def _progress(self) -> str:
        r = self.recording
        of = f"/{self.parameters.total}" if self.parameters.total else ""
        stats = [node.statistics() for node in self.container.nodes]
        latency = next((s for n in stats for s in n.stages if s.stage == "latency"), None)
        times = f"latency {latency.p50_ms:.1f} ms (p95 {latency.p95_ms:.1f})" if latency else "latency -"
        return (
            f"frame {r.frames}{of}  {r.rate:.1f} fps  {times}  detections {r.newest_detections}  "
            f"tracks {r.newest_tracks}  dropped {sum(n.dropped for n in stats)}"
        )


def _plain(stats: NodeStats) -> dict:
    """The statistics as JSON takes them."""
    return {
        "input_rate": round(stats.input_rate, 2),
        "output_rate": round(stats.output_rate, 2),
        "received": stats.received,
        "published": stats.published,
        "dropped": stats.dropped,
        "rejected": stats.rejected,
        "stages": {
            s.stage: {
                "count": s.count,
                "p50_ms": round(s.p50_ms, 3),
                "p95_ms": round(s.p95_ms, 3),
                "p99_ms": round(s.p99_ms, 3),
            }
            for s in stats.stages
        },
    }
