"""Kernel backends: what turns a graph into something that runs."""

from odyssey_core.registry import Registry

BACKENDS = Registry(
    "backend",
    {"numpy": "odyssey_core.backends.numpy:NumpyBackend", "numba": "odyssey_core.backends.numba:NumbaBackend"},
)
