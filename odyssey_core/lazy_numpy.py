"""NumPy, which is imported when something of it is first used: ``from odyssey_core import lazy_numpy as np``.

For modules that a configuration is checked with, since its import takes a fifth of the answer to a mistake. Theirs are
no annotations with ``np`` that are evaluated; a test tells of one that is.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy import *  # noqa: F403


def __getattr__(name: str) -> Any:
    import numpy

    value = globals()[name] = getattr(numpy, name)
    return value
