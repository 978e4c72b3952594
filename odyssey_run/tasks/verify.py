"""``task=verify run_id=...``: trains a recorded run again, from MLflow alone, and compares it bit by bit."""

from typing import TYPE_CHECKING

from odyssey_run.schema import VerifyConfig

if TYPE_CHECKING:
    from odyssey_run.assemble import Request


def verify(request: "Request", run_id: str, verify: VerifyConfig) -> int:
    """See ``odyssey_run.verification.verify``, imported late so that a mistake is answered at once."""
    from odyssey_run import verification

    return verification.verify(request, run_id, verify)
