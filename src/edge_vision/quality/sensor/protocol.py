"""What EMVA 1288 asks of a measurement, and whether these images show that it was done.

Section numbers are meant to be those of release 4.0 Linear (written down without the document at hand). Much of the
protocol cannot be seen in images (light, temperature, geometry): such clauses are neither met nor missed, and their
words say who must know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.quality.sensor.photon_transfer import PhotonTransfer
from edge_vision.quality.sensor.spatial import Nonuniformity

if TYPE_CHECKING:
    from edge_vision.quality.sensor.measurement import Images

VERDICT = "EMVA 1288 style, not compliant"
"""Whatever the clauses say: compliance takes a calibrated light source and the whole data sheet."""

STEPS = 50
SERIES = 50
LEAST_DARK_NOISE = 0.5
MOST_ZEROS = 0.005
MOST_INHOMOGENEITY = 3.0


@dataclass(frozen=True, slots=True)
class Clause:
    """requirement: in words. met: None where images cannot tell. found: what is there instead, or how it was met."""

    section: str
    requirement: str
    met: bool | None
    found: str


def clauses(images: Images, figures: PhotonTransfer, spatial: Nonuniformity | None) -> tuple[Clause, ...]:
    """Every clause that was looked at, missed ones first, then those that images cannot show."""
    found = [*_series(images, figures), *_noise(images, figures), *_spatial(images, figures, spatial), *_setup(images)]
    return tuple(sorted(found, key=lambda clause: {False: 0, None: 1, True: 2}[clause.met]))


def unmet(found: tuple[Clause, ...]) -> tuple[Clause, ...]:
    """Those that were not met."""
    return tuple(clause for clause in found if clause.met is False)


def inhomogeneity(average: NDArray[np.float64]) -> float:
    """(largest - smallest) / mean of a flat image in %, of means over windows of an eighth of its sides, so that
    neither noise nor single pixels count."""
    height, width = average.shape
    smooth = cv2.blur(average, (max(1, width // 8), max(1, height // 8)), borderType=cv2.BORDER_REFLECT)
    return float(100 * (smooth.max() - smooth.min()) / smooth.mean())


def _series(images: Images, figures: PhotonTransfer) -> list[Clause]:
    light = images.temporal.light
    distances = np.diff(light)
    uneven = float(np.abs(distances / distances.mean() - 1).max()) if distances.any() else np.inf
    last = len(light) - 1
    saturated = figures.saturation < last
    return [
        Clause(
            "6.5",
            f"at least {STEPS} steps from dark to saturation",
            figures.saturation + 1 >= STEPS or len(light) >= STEPS,
            f"{len(light)} steps, {figures.saturation + 1} of them up to saturation",
        ),
        Clause("6.5", "equally spaced steps", uneven <= 0.1, f"distances differ from their mean by up to {uneven:.0%}"),
        Clause(
            "6.5",
            "the steps go on beyond saturation, so that its place is seen",
            saturated,
            f"the variance is largest at step {figures.saturation + 1} of {last + 1}"
            + ("" if saturated else ": more exposure is needed, saturation capacity and dynamic range are too low"),
        ),
        Clause("6.5", "two bright and two dark images at every exposure", True, "all there"),
    ]


def _noise(images: Images, figures: PhotonTransfer) -> list[Clause]:
    noise, zeros = figures.dark_noise_dn, images.temporal.dark_zero_share
    limit = figures.dark_noise_is_limit
    words = f"{'at most ' if limit else ''}{noise:.3g} DN"
    if limit:
        words += (
            ": it is lost in the converter's steps. Dark noise, sensitivity threshold and dynamic range are limits, "
            "and K is biased (see K with offset). Measure at a higher gain"
        )
    elif noise < LEAST_DARK_NOISE:
        words += ": measure at a higher gain"
    result = [
        Clause(
            "6.5",
            f"gain so that the temporal dark noise is at least {LEAST_DARK_NOISE:g} DN",
            noise >= LEAST_DARK_NOISE and not limit,
            words,
        )
    ]
    if zeros is not None:
        result.append(
            Clause(
                "6.5",
                f"offset so that at most {MOST_ZEROS:.1%} of dark pixels are 0",
                zeros <= MOST_ZEROS,
                f"{zeros:.2%}" + ("" if zeros <= MOST_ZEROS else ": raise the black level, the dark noise is cut off"),
            )
        )
    return result


def _spatial(images: Images, figures: PhotonTransfer, spatial: Nonuniformity | None) -> list[Clause]:
    if spatial is None or images.dark is None or images.bright is None:
        return [Clause("8", "series of images dark and at 50 % of saturation", False, "none: no DSNU and no PRNU")]
    share = spatial.bright_signal / figures.saturation_dn
    count = min(images.dark.count, images.bright.count)
    same = images.dark_series_exposure == images.bright_series_exposure
    uneven = inhomogeneity(images.bright.average - images.dark.average)
    return [
        Clause("8", "bright series at 50 % of saturation", 0.45 <= share <= 0.55, f"at {share:.1%}"),
        Clause("8", "bright and dark series of one exposure time", same, "the same" if same else "they differ"),
        Clause(
            "8",
            f"series of at least {SERIES} images, as the working group's data sets have",
            count >= SERIES,
            f"{images.dark.count} dark, {images.bright.count} bright",
        ),
        Clause(
            "6.1",
            f"light even to {MOST_INHOMOGENEITY:g} % over the sensor",
            uneven <= MOST_INHOMOGENEITY,
            f"the bright series varies by {uneven:.2g} % (light, lens and sensor together)",
        ),
    ]


def _setup(images: Images) -> list[Clause]:
    counted = images.temporal.photons is not None
    result = [
        Clause(
            "6.4",
            "irradiation calibrated with an absolute photodiode",
            None if counted else False,
            "photons were given; how exactly they were counted is not known here"
            if counted
            else "no photon count: no quantum efficiency, figures in electrons instead of photons",
        ),
        Clause(
            "6.1",
            "no lens, light from a disk at eight of its diameters (f/8)",
            None,
            "not to be seen in images: whoever took them must know",
        ),
        Clause("6.2", "monochromatic light, at most 50 nm wide", None, "not to be seen in images"),
        Clause("7.1", "temperature of the camera recorded and settled", None, "not recorded"),
        Clause(
            "2.1",
            "raw linear data: no gamma, no automatic gain, no compression, no denoising, no correction of pixels",
            None,
            "only to be seen where it is gross: look at the linearity and photon transfer plots",
        ),
    ]
    if images.colour:
        result.append(
            Clause(
                "2.1",
                "raw data of the sensor's channels",
                False,
                f"colour images, of which {images.colour} was taken: interpolation and colour correction change the "
                "noise, so K and all that follows from it are off. Record raw (Bayer) values",
            )
        )
    return result
