"""What ``odyssey-run`` can do. A task takes the checked request and returns the process's exit code."""

from dataclasses import fields

from odyssey_core.registry import Registry
from odyssey_run.schema import RunConfig

TASKS = Registry(
    "task",
    {
        "train": "odyssey_run.tasks.train:train",
        "verify": "odyssey_run.tasks.verify:verify",
        "doctor": "odyssey_run.tasks.doctor:doctor",
        "benchmark": "odyssey_run.tasks.benchmark:benchmark",
        "evaluate": "odyssey_run.tasks.evaluate:evaluate",
        "predict": "odyssey_run.tasks.predict:predict",
        "show": "odyssey_run.tasks.show:show",
        "ui": "odyssey_run.tasks.ui:ui",
        "data": "odyssey_run.tasks.data:data",
        "export": "odyssey_run.tasks.export:export",
    },
    "tasks",
    provided=("request",),
    reserved=("name", "sweep", "experiment", "debug", *(field.name for field in fields(RunConfig))),
)
