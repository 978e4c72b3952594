"""``task=benchmark``."""

from dataclasses import dataclass
from typing import Annotated, Literal

from odyssey_core.ranges import Count, Range
from odyssey_run.config.request import Request


@dataclass(frozen=True)
class BenchmarkConfig:
    """What to measure, and for how long.

    Args:
        peers: measured in turns with us, where they are installed; torch alone trains.
        batch_sizes: images in a step; inference is measured for a single image too.
        threads: numbers of threads; null for 1, 2, 4 ... up to the backend's.
        rounds: every figure is the median of so many measurements.
        seconds: that one measurement takes.
    """

    peers: tuple[Literal["torch", "onnxruntime", "openvino"], ...]
    batch_sizes: tuple[Count, ...]
    threads: tuple[Count, ...] | None
    rounds: Count
    seconds: Annotated[float, Range(0.001)]


def benchmark(request: Request, benchmark: BenchmarkConfig) -> int:
    """See ``odyssey_run.tasks.benchmark.run``, imported late so that a mistake is answered at once."""
    from odyssey_run.tasks.benchmark import run

    return run.run(request, benchmark)
