"""Times calls in turns, so that disturbances of the machine affect all of them alike."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: A sample is at least this long, in seconds: far above the clock's resolution, and above a scheduler's tick.
SAMPLE = 0.012
#: A call of this length, in seconds, wakes its provider's threads in a negligible part of it.
LONG_CALL = 0.25
#: Threads of another provider's pool spin for up to some milliseconds after its last call.
PAUSE = 0.004


@dataclass(frozen=True)
class Timing:
    """Seconds per call, one number per round: samples with equal indices were taken next to each other."""

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.samples)


#: Runs a call the given number of times and returns the seconds.
Sampler = Callable[[int], float]


def sampler(call: Callable[[], Any]) -> Sampler:
    def sample(times: int) -> float:
        start = time.perf_counter()
        for _ in range(times):
            call()
        return time.perf_counter() - start

    return sample


def repetitions(sample: Sampler) -> tuple[int, float]:
    """How many calls make a sample long enough, and the seconds of one."""
    times = 1
    while True:
        seconds = sample(times)
        if seconds >= SAMPLE / 2:
            return max(1, round(times * SAMPLE / seconds)), seconds / times
        times *= 4


def interleaved(
    samplers: dict[str, Sampler], seconds: float, minimum: int = 5, maximum: int = 41
) -> dict[str, Timing]:
    """Rounds in which every provider is sampled once. The order rotates by one from round to round."""
    times, lengths = {}, {}
    for name, sample in samplers.items():
        times[name], lengths[name] = repetitions(sample)
    results: dict[str, list[float]] = {name: [] for name in samplers}
    names = list(samplers)
    start = time.perf_counter()
    rounds = 0
    while rounds < minimum or (rounds < maximum and time.perf_counter() - start < seconds):
        for name in names:
            if rounds == 0 and lengths[name] >= LONG_CALL:
                # The call that was timed just before is the sample.
                results[name].append(lengths[name])
                continue
            time.sleep(PAUSE)
            if lengths[name] < LONG_CALL:
                # Wakes the provider's threads and brings its code into the caches. It does not count.
                samplers[name](1)
            results[name].append(samplers[name](times[name]) / times[name])
        names.append(names.pop(0))
        rounds += 1
    return {name: Timing(tuple(samples)) for name, samples in results.items()}


def after_work(
    samplers: dict[str, Sampler],
    work: Callable[[], Any],
    seconds: float,
    minimum: int = 21,
    maximum: int = 101,
) -> dict[str, Timing]:
    """Rounds of one call of each provider, each right after the same work, as a training loop calls a loss
    after a forward pass: caches hold other data, and threads sleep or spin elsewhere."""
    results: dict[str, list[float]] = {name: [] for name in samplers}
    names = list(samplers)
    start = time.perf_counter()
    rounds = 0
    while rounds < minimum or (rounds < maximum and time.perf_counter() - start < seconds):
        for name in names:
            work()
            results[name].append(samplers[name](1))
        names.append(names.pop(0))
        rounds += 1
    return {name: Timing(tuple(samples)) for name, samples in results.items()}


def ratio(other: Timing, base: Timing) -> tuple[float, float, float]:
    """How many times slower `other` is: the median over rounds, with the middle 95 % of an order-statistic
    interval."""
    ratios = sorted(a / b for a, b in zip(other.samples, base.samples, strict=True))
    count = len(ratios)
    # Ranks of the distribution-free interval of a median: n/2 ± 0.98 √n.
    reach = 0.98 * count**0.5
    low = max(0, round(count / 2 - reach) - 1)
    high = min(count - 1, round(count / 2 + reach))
    return statistics.median(ratios), ratios[low], ratios[high]
