"""What a node says of itself on /diagnostics (REP 107), once a second."""

from __future__ import annotations

import math
import socket

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from edge_vision.datatypes import NodeStats
from edge_vision.health import temperature_c, throttled

_HOST = socket.gethostname()


def values(stats: NodeStats, extra: dict[str, str]) -> dict[str, str]:
    """The key-value pairs of one node."""
    pairs = {
        "input rate [Hz]": f"{stats.input_rate:.1f}",
        "output rate [Hz]": f"{stats.output_rate:.1f}",
        "received": str(stats.received),
        "published": str(stats.published),
        "dropped": str(stats.dropped),
        "rejected": str(stats.rejected),
        "age of newest input [s]": "none yet" if math.isnan(stats.newest_age_s) else f"{stats.newest_age_s:.3f}",
    }
    for stage in stats.stages:
        pairs[f"{stage.stage} p50 [ms]"] = f"{stage.p50_ms:.2f}"
        pairs[f"{stage.stage} p95 [ms]"] = f"{stage.p95_ms:.2f}"
    pairs.update(extra)
    temperature = temperature_c()
    if temperature is not None:
        pairs["temperature [C]"] = f"{temperature:.1f}"
    slowed = throttled()
    if slowed is not None:
        pairs["throttled"] = slowed
    return pairs


def make(
    name: str,
    stats: NodeStats,
    extra: dict[str, str],
    problem: str | None,
    waiting: bool,
    active: bool,
    warning: str | None = None,
) -> DiagnosticArray:
    """One node's DiagnosticArray without its stamp. problem: an error that lasts; waiting: no input comes;
    warning: what the node sees deserves attention."""
    pairs = values(stats, extra)
    status = DiagnosticStatus(name=name.lstrip("/"), hardware_id=_HOST)
    if problem:
        status.level, status.message = DiagnosticStatus.ERROR, problem
    elif not active:
        status.level, status.message = DiagnosticStatus.WARN, "not active"
    elif waiting:
        status.level, status.message = DiagnosticStatus.WARN, "no input for some seconds"
    elif warning:
        status.level, status.message = DiagnosticStatus.WARN, warning
    elif pairs.get("throttled", "no") != "no":
        status.level, status.message = DiagnosticStatus.WARN, f"the board slows itself down: {pairs['throttled']}"
    else:
        status.level, status.message = DiagnosticStatus.OK, "running"
    status.values = [KeyValue(key=key, value=value) for key, value in pairs.items()]
    return DiagnosticArray(status=[status])
