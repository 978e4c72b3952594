"""``-m``: many runs of one command, planned, in parallel, none twice."""

from odyssey_run.sweep.conduct import sweep

__all__ = ["sweep"]
