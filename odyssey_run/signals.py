"""The signals that ask a run to stop; the trainer looks for one between calls."""

import signal
import threading
from types import FrameType
from typing import Any

# Ctrl-C; what a system or a scheduler stops a job with; a closed terminal; Ctrl-\; SLURM's warning before its limit.
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1")
SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))


class StopRequest:
    """While entered, the first signal is kept in ``signum``; Ctrl-C after it stops at once (KeyboardInterrupt).

    Whoever closes a terminal or a job may send several: others after the first change nothing.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                before = signal.getsignal(number)
                if number != getattr(signal, "SIGHUP", None) or before != signal.SIG_IGN:  # nohup
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.signum = self.signum or signum
