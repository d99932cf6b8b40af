"""FastLoss's Swift API, timed in a process of its own, sample by sample in turns with the others."""

import os
import subprocess
from types import TracebackType

from .timing import Sampler


class SwiftProcess:
    """`Benchmarks serve`, with the same number of workers as the others."""

    def __init__(self, program: str, threads: int, **environment: str) -> None:
        #: The names of the rows that the program has.
        self.rows = frozenset(
            subprocess.run([program, "--list"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
        )
        self.process = subprocess.Popen(
            [program, "serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "FASTLOSS_THREADS": str(threads), **environment},
        )

    def __enter__(self) -> "SwiftProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.communicate()

    def sampler(self, row: str) -> Sampler:
        """Samples of a row of the Swift benchmarks: the same loss and shape, with inputs of the same kind."""

        def sample(times: int) -> float:
            assert self.process.stdin and self.process.stdout
            print(row, times, file=self.process.stdin, flush=True)
            answer = self.process.stdout.readline()
            if not answer:
                raise RuntimeError(f"Benchmarks serve ended when asked for {row}")
            return int(answer) / 1e9

        return sample
