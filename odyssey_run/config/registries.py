"""What the runner itself registers: its tasks, and the hooks of plug-ins.

A task takes the checked request and returns the process's exit code.
"""

from dataclasses import fields

from odyssey_core.registry import Registry
from odyssey_run.config.schema import RunConfig

OF_RUNS = ("verify", "doctor", "evaluate", "predict", "export", "compare", "ui")  # whose model is that of a run
HOOKS = Registry("hook", {}, "hooks", base="odyssey_run.training.hooks:Hook")
TASKS = Registry(
    "task",
    {name: f"odyssey_run.tasks.{name}:{name}" for name in ("train", "benchmark", "show", "data", *OF_RUNS)},
    "tasks",
    provided=("request",),
    reserved=("name", "sweep", "experiment", "debug", *(field.name for field in fields(RunConfig))),
)
