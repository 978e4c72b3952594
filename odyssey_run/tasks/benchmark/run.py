"""The task: measures first, with nothing of MLflow running beside, then records what was found as a run."""

import json
import sys

from odyssey_core.checkpoint import write_atomic
from odyssey_core.errors import ConfigError
from odyssey_run.config.request import Request
from odyssey_run.runs.recorder import check_places, recording
from odyssey_run.tasks.benchmark import report
from odyssey_run.tasks.benchmark.config import BenchmarkConfig
from odyssey_run.tasks.benchmark.measure import measure

EXPERIMENT = "benchmark"


def run(request: Request, config: BenchmarkConfig) -> int:
    """Measures, prints, and leaves a run with tables, chart and numbers.

    Returns:
        0.

    Raises:
        OdysseyError: a mistake in what was asked for; nothing has been written then.
    """
    if request.backend.name != "numba":
        raise ConfigError(f"task=benchmark: measures backend=numba, got backend={request.backend.name}")
    check_places(request)
    dataset = request.data.build()
    figures = measure(request, dataset, config, lambda line: print(f"odyssey-run: {line}", file=sys.stderr))
    with recording(request, experiment=EXPERIMENT) as session:
        session.begin(f"benchmark-{request.model.name}", {"odyssey.data.name": dataset.name})
        text = report.tables(figures)
        for line in text.splitlines():
            session.screen.say(line)
        session.metrics(0, report.metrics(figures))
        for name, content in (
            ("benchmark.md", text),
            ("benchmark.json", json.dumps(report.numbers(figures), indent=1)),
        ):
            write_atomic(session.path / name, content.encode())
            session.artifact(session.path / name)
        session.artifact(report.chart(figures, session.path / "benchmark.png"))
        session.screen.say()
        session.screen.field("run", str(session.path))
        session.end("FINISHED")
    return 0
