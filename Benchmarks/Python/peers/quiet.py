"""Whether the machine was quiet while something was timed.

Two threads that wait for each other at barriers, as those of OpenMP do, are slowed by far more than the time
that another process takes from one of them; providers without barriers are not. So a row that was timed
beside other work says nothing about anyone, and is timed again.
"""

import os
import pathlib
from collections.abc import Sequence

#: The largest share of processor time that other processes or the host may take if a row is to count.
LIMIT = 0.05
TICKS = os.sysconf("SC_CLK_TCK")


def machine_times() -> tuple[float, float]:
    """Seconds since boot, over all processors: in use or taken away by the host; and all of them."""
    numbers = [int(word) for word in pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    user, nice, system, idle, waiting, interrupt, soft_interrupt, stolen = numbers
    busy = user + nice + system + interrupt + soft_interrupt + stolen
    return busy / TICKS, (busy + idle + waiting) / TICKS


def process_time(process: int) -> float:
    """Seconds of processor time of all threads of a process."""
    fields = pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Disturbance:
    """`with Disturbance([pids]) as seen:` sets `seen.share` to the share that other processes took."""

    def __init__(self, processes: Sequence[int]) -> None:
        self.processes = processes
        self.share = 0.0

    def __enter__(self) -> "Disturbance":
        self.before = self.state()
        return self

    def __exit__(self, *_: object) -> None:
        own, busy, total = (after - before for after, before in zip(self.state(), self.before, strict=True))
        self.share = max(0.0, busy - own) / total if total else 0.0

    def state(self) -> tuple[float, float, float]:
        return (sum(map(process_time, self.processes)), *machine_times())
