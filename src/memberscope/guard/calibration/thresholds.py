"""Choose thresholds at a stated false-alarm rate, on a benign log."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from memberscope.errors import InputError
from memberscope.guard.calibration.baseline import CLIENTS, learn_baseline
from memberscope.guard.detectors.monitor import STREAMS, DetectorSettings, Monitor
from memberscope.guard.detectors.volume import DAY
from memberscope.guard.sketching.fingerprints import Fingerprints
from memberscope.guard.sketching.observations import Observations
from memberscope.statistics import clopper_pearson
from memberscope.types import Floats

# Share of the log's time in which clients become known; what they do then counts for nothing
WARM = 1 / 4
TRAIN = 3 / 4  # share of it up to which thresholds are first chosen, to be checked on the rest
TOP, FEWEST = 0.01, 50  # share of the peaks that the tail is fitted to, and how many at least


@dataclass(frozen=True)
class Tuned:
    """Calibrated settings, and how they were found.

    `rate` is the one of false alarms a client-day that was asked for, over all streams together.

    In the first quarter of the log clients become known. Thresholds chosen on the second and third
    gave `alarms` in `days` client-days of the last: a rate within [`low`, `high`] with 95%
    confidence. The settings are those chosen on the last three quarters.
    """

    settings: DetectorSettings
    rate: float
    client_days: int
    queries: int
    alarms: int
    days: int
    low: float
    high: float
    key: str = ""


def tune_detectors(
    blocks: Iterable[Observations],
    fingerprints: Fingerprints | None = None,
    *,
    radius: float,
    rate: float = 1e-3,
) -> Tuned:
    """Calibrate the detectors on this traffic, which is read twice.

    `rate` is false alarms a client-day, over all detectors together.

    Raises:
        InputError: The log is empty or no log of benign traffic over some days, or the rate is no
            rate.
    """
    if not 0 < rate < 1:
        raise InputError(
            f"Expected a rate of false alarms a client-day between 0 and 1, got {rate}. Give 0.001."
        )
    # An iterator is its own, and empty the second time
    if iter(blocks) is blocks:
        raise InputError(
            "Expected a log that can be read twice, got one that is used up. Give a list or a Log."
        )
    usual, times = learn_baseline(blocks, fingerprints, radius)
    if times[1] - times[0] < 4 * DAY:
        raise InputError(
            f"Expected a log of at least four days, got {(times[1] - times[0]) / DAY:.2f}. Observe "
            "for longer."
        )
    peaks, asked = _collect_peaks(blocks, fingerprints, usual)
    # Whole days: a day that is cut would have too few queries
    begin, border = (
        (times[0] + share * (times[1] - times[0])) // DAY + 1 for share in (WARM, TRAIN)
    )
    early, late = (
        sum(n for day, n in asked.items() if day >= begin and (day < border) == first)
        for first in (True, False)
    )
    chosen = _choose_stream_thresholds(peaks, rate, early, lambda day: begin <= day < border)
    # Thresholds for the check have not seen the days that they are checked on
    alarms = _count_alarms(peaks, chosen, border)
    # A client-day can alarm in several streams, while the limits are those of a share
    low, high = clopper_pearson(min(alarms, late), late, 0.95)
    # The settings in use are chosen on all of it, as more days make better thresholds
    settings = replace(
        usual,
        thresholds=_choose_stream_thresholds(peaks, rate, early + late, lambda day: day >= begin),
    )
    n = sum(len(block) for block in blocks)
    return Tuned(settings, rate, early + late, n, alarms, late, float(low), float(high))


Peaks = dict[str, dict[tuple[str, float], float]]


def _collect_peaks(
    blocks: Iterable[Observations], fingerprints: Fingerprints | None, usual: DetectorSettings
) -> tuple[Peaks, dict[float, int]]:
    """Collect the highest statistic of each subject and day, and the clients by day."""
    peaks: Peaks = {stream: {} for stream in STREAMS}
    clients: dict[float, set[str]] = {}

    def peak(stream: str, subject: str, time: float, value: float) -> None:
        day = time // DAY
        # Every query passes this stream, so that it counts the client-days of all
        if stream == "volume.client":
            clients.setdefault(day, set()).add(subject)
        if value > peaks[stream].get((subject, day), 0.0):
            peaks[stream][subject, day] = value

    monitor = Monitor(usual, fingerprints, clients=CLIENTS, peak=peak)
    for block in blocks:
        monitor.observe(block)
    return peaks, {day: len(found) for day, found in clients.items()}


def _choose_stream_thresholds(
    peaks: Peaks, rate: float, days: int, when: Callable[[float], bool]
) -> dict[str, float]:
    """Choose each stream's threshold, which `rate` / number of streams of the client-days exceed.

    The peaks are those of the days for which `when` holds.
    """
    found = {}
    for stream in STREAMS:
        # Each stream gets an equal share of the rate
        values = np.array([value for (_, day), value in peaks[stream].items() if when(day)])
        found[stream] = estimate_threshold(
            values, days * rate / len(STREAMS), -float(np.log(rate / len(STREAMS)))
        )
    return found


def estimate_threshold(values: Floats, expected: float, least: float) -> float:
    """Estimate the threshold that on average `expected` of the peaks exceed.

    Beyond the peaks it follows the tail of a generalised Pareto distribution.

    Its shape is kept between -0.3, for sums that forget and so are bounded, and 1. `least` is where
    too few peaks tell; for such sums it is Wald's bound. Reference: J. Pickands, "Statistical
    Inference Using Extreme Order Statistics", Annals of Statistics 1975.

    >>> rng = np.random.default_rng(0)
    >>> peaks = rng.exponential(size=20_000)
    >>> bool(9 < estimate_threshold(peaks, 1.0, 12.0) < 12)  # log(20,000) is 9.9
    True
    """
    values = np.sort(values)[::-1]
    top = max(int(TOP * len(values)), FEWEST)
    if len(values) <= top:
        # Too few peaks for a tail: well above all of them, and not below the bound
        return max(least, 1.5 * float(values[0]) if len(values) else 0.0)
    if expected >= top:
        # So many alarms are asked for that the peaks themselves give the threshold
        return float(values[int(expected)])
    base, beyond = float(values[top]), values[:top] - values[top]
    shape, scale = _fit_pareto_tail(beyond)
    ratio = top / expected
    # A shape of 0 is the exponential tail, the limit of the other formula
    tail = scale * (np.log(ratio) if abs(shape) < 1e-6 else (ratio**shape - 1) / shape)
    # Never below what was seen: at most `expected` of the peaks themselves may exceed it
    observed = float(values[int(expected)]) if expected >= 1 else float(values[0])
    return max(base + float(tail), float(np.nextafter(observed, np.inf)))


def _fit_pareto_tail(beyond: Floats) -> tuple[float, float]:
    """Fit the shape, between -0.3 and 1, and the scale of a generalised Pareto distribution.

    They are taken from the probability-weighted moments of what is beyond (n,).

    Reference: J. R. M. Hosking, J. R. Wallis, "Parameter and Quantile Estimation for the
    Generalized Pareto Distribution", Technometrics 1987.
    """
    rising = np.sort(beyond)
    n = len(rising)
    mean = float(rising.mean())
    # Plotting positions (i - 0.35) / n, as Hosking and Wallis recommend
    weighted = float((rising * (1 - (np.arange(1, n + 1) - 0.35) / n)).mean())
    if mean - 2 * weighted <= 0 or mean <= 0:
        # Moments that no such distribution has: an exponential tail is taken
        return 0.0, max(mean, 1e-12)
    shape = min(max(2 - mean / (mean - 2 * weighted), -0.3), 0.95)
    return shape, mean * (1 - shape)


def _count_alarms(peaks: Peaks, limits: dict[str, float], border: float) -> int:
    """Count the alarms that `limits` give from the day `border` on.

    A subject that exceeds one day after day alarms once.
    """
    found = 0
    for stream in STREAMS:
        days = {
            key
            for key, value in peaks[stream].items()
            if value > limits[stream] and key[1] >= border
        }
        found += sum((subject, day - 1) not in days for subject, day in days)
    return found
