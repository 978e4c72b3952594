"""``task=verify run_id=...``: trains a recorded run again, from MLflow alone, and compares it bit by bit."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from odyssey_run.binding import Range

if TYPE_CHECKING:
    from odyssey_run.assemble import Request


@dataclass(frozen=True)
class VerifyConfig:
    """How to compare.

    Args:
        steps: compare the run's first optimizer steps alone; null compares all of it, weights and test included.
        any_code: compare even where the code that made the run was another, and say so.
    """

    steps: Annotated[int, Range(1)] | None
    any_code: bool


def verify(request: "Request", run_id: str, verify: VerifyConfig) -> int:
    """See ``odyssey_run.verification.verify``, imported late so that a mistake is answered at once."""
    from odyssey_run import verification

    return verification.verify(request, run_id, verify)
