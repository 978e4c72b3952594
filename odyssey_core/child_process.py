"""Processes beside this one, with which it exchanges JSON over pipes, a value a line.

A child is a fresh interpreter with this one's ``sys.path``. It calls one function, which talks to `Parent`:

    child = Child("package.module:serve")            def serve() -> None:
    child.say({"n": 3})                                  parent = Parent()
    child.hear()  # 9                                    for question in parent:
                                                             parent.say(question["n"] ** 2)
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from io import BufferedReader, BufferedWriter
from typing import IO, Any

# The function and its arguments come through the pipe: everybody on the machine may read a command line.
START = """
import importlib, json, sys
first = json.loads(sys.stdin.buffer.readline())
sys.path[:] = first["path"]
module, _, name = first["target"].partition(":")
getattr(importlib.import_module(module), name)(*first["arguments"])
"""


class Child:
    """A process that was started to answer.

    Args:
        target: ``package.module:function``, what it runs.
        arguments: of the function, which JSON can hold.
        environment: variables that it gets beside this process's own.
        errors: a file for what it writes to stderr; by default that is dropped.
        apart: whether it is in a process group of its own, so that Ctrl-C in a terminal does not reach it.

    Attributes:
        stdout: where its answers come from, for bytes that follow a line.
        pid: of the process.
    """

    def __init__(
        self,
        target: str,
        *arguments: Any,
        environment: Mapping[str, str] | None = None,
        errors: IO[bytes] | None = None,
        apart: bool = False,
    ):
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors or subprocess.DEVNULL,
            env={**os.environ, **(environment or {})},
            process_group=0 if apart and os.name == "posix" else None,
        )
        stdin, stdout = self._process.stdin, self._process.stdout
        assert isinstance(stdin, BufferedWriter)
        assert isinstance(stdout, BufferedReader)
        self._stdin, self.stdout, self.pid = stdin, stdout, self._process.pid
        self.say({"path": sys.path, "target": target, "arguments": arguments})

    def say(self, message: Any) -> None:
        """Sends a value; does nothing where the process has ended, which shows in what it answers."""
        self.send(encoded(message))

    def send(self, line: bytes) -> None:
        """Sends a value that is encoded already."""
        with suppress(BrokenPipeError):
            self._stdin.write(line)
            self._stdin.flush()

    def hear(self) -> Any:
        """The next value that it sends; None where it has ended."""
        line = self.stdout.readline()
        return json.loads(line) if line.endswith(b"\n") else None

    def terminate(self) -> None:
        """Asks it to end."""
        self._process.terminate()

    def kill(self) -> None:
        """Ends it at once, and waits until it has."""
        self._process.kill()
        self._process.wait()

    def ending(self) -> str:
        """Waits for its end, and says how it came."""
        code = self._process.wait()
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def close(self) -> None:
        """Ends it at once and closes the pipes."""
        self.kill()
        for pipe in (self._stdin, self.stdout):
            with suppress(BrokenPipeError):
                pipe.close()


class Parent:
    """In a child: the process that started it. What libraries print goes to stderr, since stdout is for answers."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)

    def say(self, message: Any, *contents: Any) -> None:
        """Sends a value, and behind it the bytes of buffers."""
        for content in (encoded(message), *contents):
            self._out.write(content)
        self._out.flush()

    def __iter__(self) -> Iterator[Any]:
        """The values that it sends, until it ends or closes the pipe."""
        for line in sys.stdin.buffer:
            yield json.loads(line)


def encoded(message: Any) -> bytes:
    """A value as a line."""
    return json.dumps(message).encode() + b"\n"
