"""Standard output and error that may go away or have few characters: a closed pipe, a full device, a Latin-1 terminal.

Whoever looked at a run has left; the run has not.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO


class Lasting:
    """A stream that can always be written to; once that fails, what is written goes nowhere.

    Characters that its encoding does not have are written as ``\\u2192``. Everything but writing is the stream's own.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        with self._lasting():
            try:
                self._stream.write(text)
            except UnicodeEncodeError as error:  # before anything was written
                self._stream.write(text.encode(error.encoding, "backslashreplace").decode(error.encoding))
        return len(text)

    def flush(self) -> None:
        with self._lasting():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextmanager
    def _lasting(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            with suppress(OSError):  # what stands in its buffer goes the same way, at the latest when Python ends
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)


@contextmanager
def lasting() -> Iterator[None]:
    """While entered, nothing that is printed can fail."""
    _occupy()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (Lasting(stream or open(os.devnull, "w")) for stream in before)  # noqa: SIM115
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


def _occupy() -> None:
    """Opens those of the three standard streams that are closed: the next file would take such a one's number."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
