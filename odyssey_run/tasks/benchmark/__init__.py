"""``task=benchmark``: our speed beside the machine's peak and other libraries, recorded as a run."""

import json
import sys

from odyssey_core.errors import ConfigError
from odyssey_run.config.request import Request
from odyssey_run.config.schema import BenchmarkConfig


def benchmark(request: Request, benchmark: BenchmarkConfig) -> int:
    """Measures, prints, and leaves a run with tables and numbers. Raises OdysseyError before it writes any."""
    from odyssey_run.runs.folder import check_places
    from odyssey_run.runs.recorder import plan_run
    from odyssey_run.tasks.benchmark import report
    from odyssey_run.tasks.benchmark.measure import measure
    from odyssey_run.tracking.names import Status, Tag

    if request.backend.name != "numba":
        raise ConfigError(f"task=benchmark: measures backend=numba, got backend={request.backend.name}")
    check_places(request)
    dataset = request.data.build()
    # With nothing of MLflow running beside.
    figures = measure(request, dataset, benchmark, lambda line: print(f"odyssey-run: {line}", file=sys.stderr))
    with plan_run(request, experiment="benchmark") as plan:
        begun = plan.begin(f"benchmark-{request.model.name}", {Tag.DATA_NAME.value: dataset.name})
        with begun as recorder:
            text = report.tables(figures)
            for line in text.splitlines():
                recorder.screen.say(line)
            recorder.metrics(0, report.metrics(figures))
            recorder.write("benchmark.md", text.encode())
            recorder.write("benchmark.json", json.dumps(report.numbers(figures), indent=1).encode())
            recorder.screen.say()
            recorder.screen.field("run", str(recorder.path))
            recorder.end(Status.FINISHED)
    return 0
