"""The figures of the photon transfer method: EMVA 1288 release 4.0 Linear, sections 2, 3, 6 and 7.

Model: mu_y = mu_y.dark + K eta mu_p and sigma_y^2 = K^2 sigma_d^2 + sigma_q^2 + K (mu_y - mu_y.dark), sigma_q^2 = 1/12.

    saturation    the step with the largest sigma_y^2, searched from the last step back
    R             slope through 0 of mu_y - mu_y.dark over mu_p, up to 70 % of saturation
    K             slope through 0 of sigma_y^2 - sigma_y.dark^2 over mu_y - mu_y.dark, the same steps
    eta           R / K
    sigma_y.dark  of the dark variance at exposure 0 (its line over the exposure), at least sqrt(0.24) DN
    sigma_d       sqrt(sigma_y.dark^2 - sigma_q^2) / K
    mu_e.min      sigma_y.dark / K + 1/2,  mu_p.min = mu_e.min / eta
    mu_e.sat      eta mu_p.sat
    SNR_max       sqrt(mu_e.sat);  DR = mu_e.sat / mu_e.min;  dB = 20 log10
    SNR(mu_e)     mu_e / sqrt(sigma_d^2 + sigma_q^2 / K^2 + mu_e)
    LE            extremes of 100 (Y - fit) / fit, 5 .. 95 % of saturation, fit with weights 1/Y (of relative errors)
    dark current  slope of the dark mean over the exposure, over K; of the dark variance, over K^2

Where no photons were counted, the light is told by the exposure: its unit cancels in eta mu_p, so that everything in
electrons is known, and what needs photons is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_vision.quality.sensor.errors import SensorDataError
from edge_vision.quality.sensor.statistics import Temporal

QUANTISATION_VARIANCE = 1 / 12
LEAST_DARK_VARIANCE = 0.24
"""DN²: below it the dark noise is the quantisation's and only a limit can be told (section 6.6)."""

_PLANCK, _LIGHT_SPEED = 6.62607015e-34, 299792458.0

NO_PHOTONS = (
    "no photon count: it needs a calibrated irradiance (--irradiance-uw-cm2 with --pixel-pitch-um, --wavelength-nm) or "
    "photons in the descriptor"
)


@dataclass(frozen=True, slots=True)
class PhotonTransfer:
    """The figures; None where unknown, with the reason in ``unknown`` by the field's name.

    Units: responsivity DN/photon (DN/s without photons), system_gain DN/e-, dark_noise_dn DN, thresholds and
    saturation in photons and electrons a pixel, saturation_dn DN above dark, dB by 20 log10, linearity in %, dark
    current e-/s. quantum_efficiency: 0..1.

    dark_noise_is_limit: the dark noise is at most that much. gain_with_offset: K from a line with an offset over steps
    of enough noise, which a dark noise lost in quantisation does not bias. ceiling_electrons: what the signal's end
    value is in electrons, None where the series does not get there: the full well or the converter's range.
    saturation, sensitivity_last, linearity_first, linearity_last: indices of steps.
    """

    responsivity: float
    system_gain: float
    gain_with_offset: float | None
    quantum_efficiency: float | None
    dark_noise_dn: float
    dark_noise_electrons: float
    dark_noise_is_limit: bool
    threshold_photons: float | None
    threshold_electrons: float
    saturation_photons: float | None
    saturation_electrons: float
    saturation_dn: float
    ceiling_electrons: float | None
    snr_max: float
    snr_max_db: float
    snr_max_bits: float
    dynamic_range: float
    dynamic_range_db: float
    linearity_slope: float
    linearity_offset: float
    linearity_error_min: float
    linearity_error_max: float
    dark_current_mean: float | None
    dark_current_variance: float | None
    saturation: int
    sensitivity_last: int
    linearity_first: int
    linearity_last: int
    unknown: Mapping[str, str]

    def snr(self, electrons: NDArray[np.float64]) -> NDArray[np.float64]:
        """The model's SNR at a mean of so many electrons a pixel (section 2.3)."""
        floor = self.dark_noise_electrons**2 + QUANTISATION_VARIANCE / self.system_gain**2
        return electrons / np.sqrt(floor + electrons)


def photons(
    exposure: NDArray[np.float64] | float, pixel_area: float, wavelength: float, irradiance: float
) -> NDArray[np.float64] | float:
    """Mean photons a pixel: A E t / (h c / lambda), about 50.34 A t[ms] lambda[µm] E.

    exposure: s. pixel_area: µm². wavelength: nm. irradiance: µW/cm² on the sensor.
    """
    energy = _PLANCK * _LIGHT_SPEED / (wavelength * 1e-9)
    return (pixel_area * 1e-12) * (irradiance * 1e-2) * exposure / energy


def photon_transfer(series: Temporal) -> PhotonTransfer:
    """Evaluates a series. Raises SensorDataError where it cannot be: too few steps, no light, no noise."""
    signal, light = series.signal, series.light
    noise = series.variance - series.dark_variance
    if len(light) < 3:
        raise SensorDataError(f"{len(light)} bright steps", "at least 3 are needed, the standard asks for 50")
    saturation = saturation_index(series.variance)
    if signal.max() <= 0:
        raise SensorDataError(
            "bright images are not brighter than dark ones", "check the light, and that the cap was on for dark only"
        )
    if signal[saturation] <= 0 or noise[saturation] <= 0:
        raise _no_shot_noise()
    last = _last(signal <= 0.7 * signal[saturation], saturation)
    steps = slice(0, last + 1)
    R = _slope_through_zero(light[steps], signal[steps])
    K = _slope_through_zero(signal[steps], noise[steps])
    if not (K > 0 and R > 0):
        raise _no_shot_noise()
    unknown: dict[str, str] = {}
    known = series.photons is not None
    if not known:
        unknown |= dict.fromkeys(("quantum_efficiency", "threshold_photons", "saturation_photons"), NO_PHOTONS)
    dark_variance, is_limit = _dark_variance(series)
    dark_noise = math.sqrt(dark_variance)
    threshold = dark_noise / K + 0.5
    full = R / K * float(light[saturation])
    first, end, slope, offset, errors = _linearity(light, signal, saturation)
    current_mean, current_variance = _dark_current(series, K, unknown)
    return PhotonTransfer(
        responsivity=R,
        system_gain=K,
        gain_with_offset=_gain_with_offset(series, steps),
        quantum_efficiency=R / K if known else None,
        dark_noise_dn=dark_noise,
        dark_noise_electrons=math.sqrt(dark_variance - QUANTISATION_VARIANCE) / K,
        dark_noise_is_limit=is_limit,
        threshold_photons=threshold * K / R if known else None,
        threshold_electrons=threshold,
        saturation_photons=float(light[saturation]) if known else None,
        saturation_electrons=full,
        saturation_dn=float(signal[saturation]),
        ceiling_electrons=_ceiling(series, saturation, K, unknown),
        snr_max=math.sqrt(full),
        snr_max_db=10 * math.log10(full),
        snr_max_bits=math.log2(full) / 2,
        dynamic_range=full / threshold,
        dynamic_range_db=20 * math.log10(full / threshold),
        linearity_slope=slope,
        linearity_offset=offset,
        linearity_error_min=float(errors.min()),
        linearity_error_max=float(errors.max()),
        dark_current_mean=current_mean,
        dark_current_variance=current_variance,
        saturation=saturation,
        sensitivity_last=last,
        linearity_first=first,
        linearity_last=end,
        unknown=unknown,
    )


def _no_shot_noise() -> SensorDataError:
    return SensorDataError(
        "the noise does not grow with the signal",
        "images must be raw: no denoising, no compression, no automatic exposure or gain; and not one frame twice",
    )


def saturation_index(variance: NDArray[np.float64]) -> int:
    """The step of the largest variance, met from the last step back; one step lower than both neighbours is passed.

    A plain maximum takes a noisy step well before saturation on real series.
    """
    best = len(variance) - 1
    step = best - 1
    while step >= 0:
        if variance[step] >= variance[best]:
            best = step
        elif step > 0 and variance[step - 1] >= variance[best]:
            step -= 1
            best = step
        else:
            break
        step -= 1
    return best


def linearity_errors(series: Temporal, figures: PhotonTransfer) -> NDArray[np.float64]:
    """100 (Y - fit) / fit of every step, %."""
    fit = figures.linearity_slope * series.light + figures.linearity_offset
    return 100 * (series.signal - fit) / fit


def _slope_through_zero(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    return float(x @ y / (x @ x)) if x.any() else 0.0


def _last(condition: NDArray[np.bool_], before: int) -> int:
    """The last step up to ``before`` at which it holds; at least the first."""
    found = np.flatnonzero(condition[: before + 1])
    return int(found[-1]) if len(found) else 0


def _dark_variance(series: Temporal) -> tuple[float, bool]:
    """sigma_y.dark² in DN², and whether it is only a limit."""
    variance = float(series.dark_variances[0])
    if len(series.dark_exposures) > 2:
        variance = float(np.polyfit(series.dark_exposures, series.dark_variances, 1)[1])
    return max(variance, LEAST_DARK_VARIANCE), variance < LEAST_DARK_VARIANCE


def _gain_with_offset(series: Temporal, steps: slice) -> float | None:
    """K by a line with an offset, of steps noisy enough that quantisation adds 1/12 DN² and nothing else."""
    # The whole mean: shot noise of the dark current lies on the same line.
    mean, variance = series.mean[steps], series.variance[steps]
    enough = variance >= LEAST_DARK_VARIANCE
    if np.count_nonzero(enough) < 3:
        return None
    # The variance of a variance is proportional to its square.
    return float(np.polyfit(mean[enough], variance[enough], 1, w=1 / variance[enough])[0])


def _ceiling(series: Temporal, saturation: int, K: float, unknown: dict[str, str]) -> float | None:
    if saturation < len(series.mean) - 1 and series.variance[-1] < 0.2 * series.variance[saturation]:
        return float(series.mean[-1] - series.dark_means[0]) / K  # above the dark of the shortest exposure
    unknown["ceiling_electrons"] = "the last step is not fully saturated"
    return None


def _linearity(
    light: NDArray[np.float64], signal: NDArray[np.float64], saturation: int
) -> tuple[int, int, float, float, NDArray[np.float64]]:
    """First and last step, slope and offset of the fit, errors in % of these steps (section 6.7)."""
    first = int(np.flatnonzero(signal >= 0.05 * signal[saturation])[0])
    last = _last(signal <= 0.95 * signal[saturation], saturation)
    if last - first < 1:
        raise SensorDataError(
            "fewer than two steps between 5 and 95 % of saturation", "take more steps, equally spaced up to saturation"
        )
    x, y = light[first : last + 1], signal[first : last + 1]
    slope, offset = np.polyfit(x, y, 1, w=1 / y)
    fit = slope * x + offset
    return first, last, float(slope), float(offset), 100 * (y - fit) / fit


def _dark_current(series: Temporal, K: float, unknown: dict[str, str]) -> tuple[float | None, float | None]:
    """Of the mean and of the variance, e-/s (section 7)."""
    if len(series.dark_exposures) <= 2:
        reason = "it needs dark images of three or more exposures"
        unknown |= {"dark_current_mean": reason, "dark_current_variance": reason}
        return None, None
    mean = float(np.polyfit(series.dark_exposures, series.dark_means, 1)[0]) / K
    variance = float(np.polyfit(series.dark_exposures, series.dark_variances, 1)[0]) / K**2
    if variance < 0:
        unknown["dark_current_variance"] = "the dark variance does not grow with the exposure: below what is measured"
        return mean, None
    return mean, variance
