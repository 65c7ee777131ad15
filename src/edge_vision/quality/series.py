"""The quality of a row of pictures: one entry a picture, with its no-reference report and, where there is a reference,
how close it comes to that; and what all of them come to."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import QualityReport, Verdict
from edge_vision.quality.full_reference import FullReference

NAN = math.nan
MOST_LISTED = 5
_NEIGHBOURS = 5  # pictures of a video that show the same


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture. index: its number in the source, from 0; seconds: after the first, NaN for files without time;
    compared: None without a reference; problem: why it could not be measured, then report may be None."""

    index: int
    name: str
    seconds: float = NAN
    report: QualityReport | None = None
    compared: FullReference | None = None
    problem: str = ""

    @property
    def blamed(self) -> list[Verdict]:
        return [verdict for verdict in self.report.verdicts if verdict.blamed] if self.report else []


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture to look at: JPEG bytes, and what it shows."""

    caption: str
    jpeg: bytes


@dataclass(frozen=True, slots=True)
class Series:
    """source, reference: as given, reference empty without one; description: of the source for people; every: of how
    many pictures one was measured; pictures: the worst ones."""

    source: str
    description: str
    entries: tuple[Entry, ...]
    reference: str = ""
    every: int = 1
    warnings: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()

    @property
    def measured(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.report is not None]

    @property
    def problems(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.problem]


@dataclass(frozen=True, slots=True)
class Figure:
    """A number of every entry. better: "high", "low", or "" where neither is. compared: it needs a reference."""

    key: str
    title: str
    unit: str
    digits: int
    better: str = ""
    compared: bool = False

    def value(self, entry: Entry) -> float:
        """NaN where it was not measured."""
        holder = entry.compared if self.compared else entry.report
        found = getattr(holder, self.key) if holder is not None else None
        return NAN if found is None else float(found)

    def text(self, value: float) -> str:
        if math.isnan(value):
            return "-"
        if math.isinf(value):
            return "inf" if value > 0 else "-inf"
        shown = f"{value:.{self.digits}f}"
        return shown if float(shown) else shown.lstrip("-")


FIGURES = (
    Figure("ssim", "SSIM", "", 4, "high", True),
    Figure("ms_ssim", "MS-SSIM", "", 4, "high", True),
    Figure("psnr", "PSNR", "dB", 2, "high", True),
    Figure("snr", "SNR against reference", "dB", 2, "high", True),
    Figure("mse", "MSE", "DN²", 2, "low", True),
    Figure("mean", "brightness", "DN", 1),
    Figure("contrast", "contrast", "", 3, "high"),
    Figure("clipped_dark", "share of black pixels", "", 4, "low"),
    Figure("clipped_bright", "share of white pixels", "", 4, "low"),
    Figure("entropy", "entropy", "bit", 2, "high"),
    Figure("noise_sigma", "noise", "DN", 2, "low"),
    Figure("snr", "signal to noise", "dB", 1, "high"),
    Figure("dynamic_range", "dynamic range", "dB", 1, "high"),
    Figure("sharpness", "sharpness", "", 4, "high"),
    Figure("blur_sigma", "blur", "px", 2, "low"),
    Figure("motion_length", "motion blur", "px", 1, "low"),
    Figure("colour_cast", "colour cast", "octaves", 2, "low"),
    Figure("blockiness", "blockiness", "", 2, "low"),
    Figure("occluded_share", "occluded share", "", 4, "low"),
    Figure("flicker", "flicker", "", 4, "low"),
    Figure("frozen_frames", "frozen for", "frames", 0, "low"),
)


@dataclass(frozen=True, slots=True)
class Summary:
    """A figure over all entries that have it; worst: None where neither more nor less is better, and
    where all are the same."""

    figure: Figure
    median: float
    low: float
    high: float
    worst: Entry | None


@dataclass(frozen=True, slots=True)
class Blame:
    """A cause over all entries: how many were blamed, and the one with the highest severity."""

    cause: str
    count: int
    share: float
    worst: Entry
    verdict: Verdict


def summaries(series: Series) -> list[Summary]:
    """Of every figure that at least one entry has: median, 5th and 95th percentile, and the worst entry."""
    found = []
    for figure in FIGURES:
        pairs = [(figure.value(entry), entry) for entry in series.entries]
        pairs = [(value, entry) for value, entry in pairs if not math.isnan(value)]
        if not pairs:
            continue
        values = np.array([value for value, _ in pairs])
        # Order statistics without interpolation: PSNR may be infinite.
        low, median, high = np.percentile(values, (5, 50, 95), method="nearest")
        worst = None
        if figure.better and values.min() < values.max():
            worst = (min if figure.better == "high" else max)(pairs, key=lambda pair: pair[0])[1]
        found.append(Summary(figure, float(median), float(low), float(high), worst))
    return found


def blames(series: Series) -> list[Blame]:
    """The causes that were blamed at all, the most frequent first."""
    by_cause: dict[str, list[tuple[Verdict, Entry]]] = {}
    for entry in series.measured:
        for verdict in entry.blamed:
            by_cause.setdefault(verdict.cause, []).append((verdict, entry))
    found = []
    for cause, cases in by_cause.items():
        verdict, worst = max(cases, key=lambda case: case[0].severity)
        found.append(Blame(cause, len(cases), len(cases) / len(series.measured), worst, verdict))
    return sorted(found, key=lambda blame: -blame.count)


def worst_entries(series: Series, most: int = MOST_LISTED) -> list[Entry]:
    """Those furthest from the reference (by SSIM) where there is one, else those with the gravest verdicts; of
    neighbours in time one alone."""
    ranked = sorted(
        ((entry.compared.ssim, entry.index, entry) for entry in series.entries if entry.compared and entry.compared.mse)
        if any(entry.compared is not None for entry in series.entries)
        else (
            (-max(verdict.severity for verdict in entry.blamed), entry.index, entry)
            for entry in series.measured
            if entry.blamed
        )
    )
    chosen: list[Entry] = []
    for _, index, entry in ranked:
        if all(abs(index - one.index) > _NEIGHBOURS * series.every for one in chosen) or not math.isfinite(
            entry.seconds
        ):
            chosen.append(entry)
        if len(chosen) == most:
            break
    return chosen


def values_of(entries: Iterable[Entry], figure: Figure) -> NDArray[np.float64]:
    """(N,) float64, NaN where an entry has not got it."""
    return np.array([figure.value(entry) for entry in entries], np.float64)
