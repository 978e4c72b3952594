"""``task=verify run_id=...``: holds all that a recorded run states, and trains it again, bit by bit."""

from odyssey_run.config.request import Request
from odyssey_run.config.schema import VerifyConfig


def verify(request: Request, run_id: str, verify: VerifyConfig, badge: str | None, json: str | None) -> int:
    """See ``odyssey_run.tasks.verify.verification.verify``, imported late so that a mistake is answered at once."""
    from odyssey_run.tasks.verify import verification

    return verification.verify(request, run_id, verify, badge, json)
