"""Summing up a row of pictures."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import pytest

from edge_vision.datatypes import QualityReport, Verdict
from edge_vision.quality import series_plots
from edge_vision.quality.full_reference import FullReference
from edge_vision.quality.series import Entry, Series, blames, summaries, worst_entries
from edge_vision.quality.series_report import as_csv, as_dict, ordinal, text


def entry(index, *, mean=100.0, noise=2.0, ssim=None, seconds=None):
    verdict = Verdict("noisy", noise, 6.0, noise / 6.0, "noise_sigma", "DN")
    report = QualityReport(mean=mean, p1=mean - 50, p99=mean + 50, noise_sigma=noise, verdicts=(verdict,))
    psnr = math.inf if ssim == 1 else 30.0
    close = None if ssim is None else FullReference(0.0 if ssim == 1 else 10.0, psnr, psnr, ssim, None)
    return Entry(index, f"frame {index}", index / 10 if seconds is None else seconds, report, close)


def series(*entries, **given):
    return Series("belt.mp4", "video belt.mp4", entries, **given)


def test_summaries_have_median_range_and_the_worst():
    found = {one.figure.key: one for one in summaries(series(*(entry(i, noise=float(i)) for i in range(11))))}
    noise = found["noise_sigma"]
    assert (noise.median, noise.worst.index) == (5.0, 10)
    assert (noise.low, noise.high) == (0.0, 10.0)  # of eleven, nearest to 5 % and 95 %
    assert found["mean"].worst is None
    assert "blur_sigma" not in found  # nobody has it


def test_infinite_psnr_is_a_value_and_nan_is_none():
    found = {one.figure.title: one for one in summaries(series(entry(0, ssim=1), entry(1, ssim=1), entry(2, ssim=0.5)))}
    assert found["PSNR"].median == math.inf
    assert found["PSNR"].worst.index == 2
    assert found["PSNR"].figure.text(math.inf) == "inf"
    assert found["PSNR"].figure.text(math.nan) == "-"
    assert found["SSIM"].figure.text(-1e-17) == "0.0000"


def test_blames_count_pictures_and_name_the_gravest():
    (blame,) = blames(series(entry(0), entry(1, noise=7), entry(2, noise=9), Entry(3, "lost", problem="damaged")))
    assert (blame.cause, blame.count, blame.worst.index) == ("noisy", 2, 2)
    assert blame.share == pytest.approx(2 / 3)


def test_worst_pictures_are_not_neighbours():
    found = worst_entries(series(*(entry(i, noise=6.0 + i / 100) for i in range(30))))
    indexes = [one.index for one in found]
    assert indexes == [29, 23, 17, 11, 5]
    by_reference = worst_entries(series(*(entry(i, ssim=1 - i / 100) for i in range(12)), reference="r"))
    assert [one.index for one in by_reference] == [11, 5]
    files = [replace(one, seconds=math.nan) for one in (entry(0, noise=8), entry(1, noise=9))]
    assert [one.index for one in worst_entries(series(*files))] == [1, 0]


def test_text_of_pictures_that_are_all_well():
    shown = text(series(entry(0), entry(1)))
    assert "no picture is blamed for anything" in shown
    assert "worst pictures" not in shown


def test_what_was_not_measured_is_in_every_file():
    one = series(entry(0), Entry(1, "frame 1", problem="damaged"), warnings=("ended early",))
    assert "damaged" in text(one)
    assert "warning: ended early" in text(one)
    assert as_dict(one)["pictures"][1] == {"index": 1, "name": "frame 1", "seconds": None, "problem": "damaged"}
    assert as_csv(one).splitlines()[2].startswith("1,frame 1,,,damaged,")


@pytest.mark.parametrize(
    ("number", "shown"),
    [(2, "2nd"), (3, "3rd"), (10, "10th"), (11, "11th"), (13, "13th"), (21, "21st"), (112, "112th")],
)
def test_ordinals(number, shown):
    assert ordinal(number) == shown


@pytest.mark.parametrize("count", [2, 5000])
def test_plots_of_few_and_of_many(count):
    pytest.importorskip("matplotlib")
    many = series(*(entry(i, noise=8.0 if 10 < i < 900 else 2.0, ssim=1 if i % 2 else 0.9) for i in range(count)))
    drawn = series_plots.svg(many)
    assert drawn.startswith("<svg")
    assert "noise, DN" in drawn
    assert ("noisy" in drawn) == (count > 10)
    assert len(drawn) < 600_000  # a line a pixel, not a point a picture
    target = io.BytesIO()
    series_plots.draw(many, target, "png")
    assert target.getvalue().startswith(b"\x89PNG")
