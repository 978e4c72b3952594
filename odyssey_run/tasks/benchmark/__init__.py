"""``task=benchmark``."""

from typing import TYPE_CHECKING

from odyssey_run.tasks.benchmark.config import BenchmarkConfig

if TYPE_CHECKING:
    from odyssey_run.config.request import Request


def benchmark(request: "Request", benchmark: BenchmarkConfig) -> int:
    """See ``odyssey_run.tasks.benchmark.run``, imported late so that a mistake is answered at once."""
    from odyssey_run.tasks.benchmark import run

    return run.run(request, benchmark)
