"""``task=train``."""

from odyssey_run.config.request import Request


def train(request: Request) -> int:
    """Trains one model; see ``odyssey_run.training.train``, imported late so that a mistake is answered at once."""
    from odyssey_run.training.train import run

    return run(request)[0]
