"""What the runner itself registers: its tasks, and the hooks of plug-ins.

A task takes the checked request and returns the process's exit code.
"""

from dataclasses import fields

from odyssey_core.registry import Registry
from odyssey_run.config.schema import RunConfig

HOOKS = Registry("hook", {}, "hooks", base="odyssey_run.training.hooks:Hook")
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
        "compare": "odyssey_run.tasks.compare:compare",
    },
    "tasks",
    provided=("request",),
    reserved=("name", "sweep", "experiment", "debug", *(field.name for field in fields(RunConfig))),
)
