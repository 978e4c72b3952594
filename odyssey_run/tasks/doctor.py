"""``task=doctor``: finds runs whose process died, marks them, sends what MLflow has not got, says how to go on."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from odyssey_run.assemble import Request


def doctor(request: "Request") -> int:
    """See ``odyssey_run.mending.doctor``, imported late so that a mistake is answered at once."""
    from odyssey_run import mending

    return mending.doctor(request)
