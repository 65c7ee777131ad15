"""The tables of a report as text in rows, for Markdown and HTML alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from edge_vision.optimize.report.data import Report, Score, StepReport

Table = tuple[list[str], list[list[str]]]
ABSENT = "-"


def count(value: float) -> str:
    """`252 k`, `184 M`: three digits that matter."""
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= 0.9995 * limit:
            return _three(value / limit) + unit
    return f"{value:.0f}" if value == int(value) else _three(value)


def size(value: float | None) -> str:
    """Bytes in decimal units."""
    return ABSENT if value is None else f"{count(value)}B" if value >= 999.5 else f"{value:.0f} B"


def _three(value: float) -> str:
    rounded = float(f"{value:.3g}")
    digits = max(0, 2 - math.floor(math.log10(abs(rounded)))) if rounded else 0
    return f"{rounded:.{digits}f}"


def times(before: float | None, after: float | None) -> str:
    """` (3.5x)`: how many times smaller; "" where that is nothing to speak of."""
    if not before or not after or round(before / after, 2) == 1:
        return ""
    return f" ({before / after:.2f}x)" if before / after < 9.95 else f" ({before / after:.1f}x)"


def faster(speedup: float) -> str:
    """`2.49x faster`, or `1.67x slower`."""
    return f"{speedup:.2f}x faster" if speedup >= 1 else f"{1 / speedup:.2f}x slower"


def share(score: Score | None, signed: bool = False) -> str:
    """A metric in percent with its interval."""
    if score is None or not math.isfinite(score.value):
        return ABSENT
    form = "+.2f" if signed else ".2f"
    value = f"{100 * score.value:{form}}"
    if not (math.isfinite(score.low) and math.isfinite(score.high)):
        return value
    return f"{value} [{100 * score.low:{form}}, {100 * score.high:{form}}]"


def milliseconds(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def step_table(report: Report) -> Table:
    """The one table: a row a step."""
    heads = ["step", "file", "packed", "parameters", "non-zeros", "distinct", "MACs", "peak activations"]
    heads += [f"{report.metric} %", "drop, points"]
    timed = [name for name in report.backends if any(step.latency_on(name) for step in report.steps)]
    sized = [name for name in report.backends if any(step.memory_on(name) for step in report.steps)]
    for name in timed:
        heads += [f"{name} p50 / p95 ms", f"{name} ratio"]
    heads += [f"{name} RSS" for name in sized]
    first = report.original
    rows = []
    for index, step in enumerate(report.steps):
        s, c = step.size, step.compute
        row = [
            step.title,
            size(s.file) + times(first.size.file, s.file),
            size(s.packed) + times(first.size.file, s.packed),
            count(s.parameters) + times(first.size.parameters, s.parameters),
            count(s.non_zeros) + (f" ({s.sparsity:.0%} zeros)" if s.sparsity >= 0.1 else ""),
            f"{count(s.distinct)}",
            macs(step) + times(first.compute.macs, c.macs),
            size(c.peak_bytes) + times(first.compute.peak_bytes, c.peak_bytes),
            share(step.accuracy),
            share(step.drop, signed=True) if index else ABSENT,
        ]
        for name in timed:
            latency = step.latency_on(name)
            if latency is None:
                row += [ABSENT, ABSENT]
            else:
                row.append(f"{milliseconds(latency.p50_ms)} / {milliseconds(latency.p95_ms)}")
                row.append(ratio(latency.ratio, latency.low, latency.high) if index else "1")
        for name in sized:
            memory = step.memory_on(name)
            row.append(ABSENT if memory is None else size(memory.peak))
        rows.append(row)
    return heads, rows


def ratio(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return ABSENT
    return f"{value:.2f} [{low:.2f}, {high:.2f}]" if low is not None and high is not None else f"{value:.2f}"


def macs(step: StepReport) -> str:
    """With the share of each kind of arithmetic where there are several or it is not fp32."""
    kinds, total = step.compute.macs_by_kind, step.compute.macs
    if not total or set(kinds) == {"fp32"}:
        return count(total)
    named = ", ".join(
        kind if value == total else f"{value / total:.0%} {kind}"
        for kind, value in sorted(kinds.items(), key=lambda item: -item[1])
    )
    return f"{count(total)} {named}"


def refused_table(report: Report) -> Table:
    """What steps left alone, what backends could not run, which recipes could not be done."""
    rows = [[step.title, line] for step in report.steps for line in step.refused]
    for step in report.steps:
        rows += [[step.title, f"{row.backend}: {row.problem}"] for row in step.latency if row.problem]
    rows += [[f"recipe {trial.name}", trial.why] for trial in report.trials if trial.why]
    return ["where", "what and why"], rows


def trial_table(report: Report) -> Table:
    """The recipes that were tried and done."""
    heads = ["recipe", f"{report.metric} %", "drop, points", "time, share", "packed", "memory", ""]
    rows = []
    for trial in report.trials:
        if trial.accuracy is None:
            continue
        marks = (
            (trial.chosen, "chosen"),
            (trial.front, "on the front"),
            ((trial.drop or 0) > report.max_drop, "over the budget"),
        )
        rows.append(
            [
                trial.name,
                f"{100 * trial.accuracy:.2f}",
                ABSENT if trial.drop is None else f"{100 * trial.drop:+.2f}",
                ABSENT if trial.latency is None else f"{trial.latency:.2f}",
                size(trial.size),
                size(trial.memory),
                ", ".join(word for true, word in marks if true),
            ]
        )
    return heads, rows


def layer_table(step: StepReport) -> Table:
    """A row a layer with weights."""
    sizes = {tensor.name: tensor for tensor in step.size.weights}
    heads = ["layer", "operator", "output", "computes in", "MACs", "weights", "zeros", "distinct", "written"]
    rows = []
    for layer in step.compute.layers:
        tensor = sizes.get(layer.name)
        if not layer.macs and tensor is None:
            continue
        rows.append(
            [
                layer.name,
                layer.op + (" depthwise" if layer.depthwise else ""),
                "x".join(map(str, layer.output)),
                layer.kind,
                count(layer.macs),
                count(tensor.elements) if tensor else ABSENT,
                f"{1 - tensor.non_zeros / max(tensor.elements, 1):.0%}" if tensor else ABSENT,
                count(tensor.distinct) if tensor else ABSENT,
                size(layer.written_bytes),
            ]
        )
    return heads, rows


def operator_table(step: StepReport) -> Table:
    """A row an operator."""
    heads = ["operator", "computes in", "times", "MACs", "other operations", "weights", "read", "written"]
    rows = [
        [
            row.op,
            row.kind,
            str(row.count),
            count(row.macs),
            count(row.operations),
            size(row.weight_bytes),
            size(row.read_bytes),
            size(row.written_bytes),
        ]
        for row in step.compute.by_operator
    ]
    return heads, rows


def fact_table(facts: Mapping, prefix: str = "") -> Table:
    """Facts of a step, nested ones by dotted names."""
    rows: list[list[str]] = []
    for key, value in facts.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            rows += fact_table(value, f"{name}.")[1]
        else:
            rows.append([name, _value(value)])
    return ["fact", ""], rows


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_value(item) for item in value)
    return str(value)


def about_table(report: Report) -> Table:
    """Where and how it was measured."""
    rows = [
        ["data", f"{report.data}; accuracy on {report.images} images of {report.clips} clips"],
        ["device", f"{report.device}, {report.threads} thread{'s' if report.threads != 1 else ''}"],
        *([name, value] for name, value in report.machine.items()),
    ]
    if report.load_average:
        values = ", ".join(f"{value:.2f}" for value in report.load_average)
        rows.append(["load average before and after the latencies", values])
    rows += [[name, value] for name, value in report.versions.items()]
    if report.seconds:
        rows.append(["took", f"{report.seconds:.0f} s"])
    if report.date:
        rows.append(["date", report.date])
    if report.command:
        rows.append(["command", report.command])
    return ["", ""], rows


JUDGED = "Recipes are judged on other images than the steps above, and the one chosen has to keep the budget on both."
NOTES = (
    "file: the ONNX file; packed: as it is shipped, weights entropy-coded; both compared with the original's file.",
    "distinct: values of all weights together; of quantised weights their integers. Zeros are of convolutions and "
    "matrix products.",
    "MACs: multiply-accumulates of one image. Peak activations: the most bytes of tensors alive at once in the graph's "
    "order, operators fused as every runtime does; a kernel's own work space is not in it.",
    "Intervals are 95 % bootstrap intervals: of accuracies over clips (the drop is paired), of ratios over turns.",
    "ratio: of the p50 to the original's, all models open in one process and taking turns in random order.",
    "RSS: the most resident memory of a fresh process that opens and runs the model, above the same with a tiny model.",
)
