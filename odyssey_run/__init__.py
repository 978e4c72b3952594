"""The runner, from Python: train a model of your own or of the program's, look at its numbers, ask it.

    run = odyssey_run.train("data=digits", "trainer.epochs=3", model=MyNet)
    pandas.DataFrame(run.history)
    labels, probabilities = run.predict(pixels)

docs/python.md tells more.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from odyssey_run.api import EpochEnd, Hook, OdysseyError, RecordedRun, Request, UnfinishedRun, compose, load, train

__all__ = ["EpochEnd", "Hook", "OdysseyError", "RecordedRun", "Request", "UnfinishedRun", "compose", "load", "train"]


def __getattr__(name: str) -> Any:
    """Imports the public names when they are used: the command, too, imports this package."""
    if name == "__version__":
        return import_module("odyssey_run.cli").version()
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("odyssey_run.api"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
