"""The names that MLflow takes, by its own rules, without importing it. Those of metrics are the program's own."""

import posixpath

MOST = 500  # characters of an experiment's name


def model_fault(name: str) -> str | None:
    """What MLflow would find wrong with a name in its registry of models; None where nothing is."""
    if not name.strip() or "/" in name or ":" in name:
        return "MLflow takes a name without / and :"
    if posixpath.normpath(name) != name or name in (".", ".."):
        return "MLflow takes no name that would be another as a file's"
    return None


def experiment_fault(name: str) -> str | None:
    """What MLflow would find wrong with the name of an experiment; None where nothing is."""
    return None if 0 < len(name) <= MOST else f"MLflow takes 1 to {MOST} characters"
