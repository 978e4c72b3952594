"""The names that MLflow takes, by its own rules, without importing it."""

import posixpath

MOST_OF_EXPERIMENT = 500  # characters


def model_fault(name: str) -> str | None:
    """What MLflow would find wrong with a name in its registry of models; None where nothing is."""
    if not name.strip() or "/" in name or ":" in name:
        return "MLflow takes a name without / and :"
    return _fault_of_path(name)


def experiment_fault(name: str) -> str | None:
    """What MLflow would find wrong with the name of an experiment; None where nothing is."""
    if not name or len(name) > MOST_OF_EXPERIMENT:
        return f"MLflow takes 1 to {MOST_OF_EXPERIMENT} characters"
    return None


def _fault_of_path(name: str) -> str | None:
    """Names may become files: a/../b would be another."""
    path = posixpath.normpath(name)
    return (
        "as a file's name it would be another" if path != name or path.startswith(("..", "/")) or path == "." else None
    )
