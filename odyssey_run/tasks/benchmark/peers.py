"""The other libraries: each in a process of its own for each number of threads, asked for one measurement at a time."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from odyssey_run.tasks.benchmark.ours import INFER, TRAIN, Case

SCRIPTS = {"torch": "torch_peer.py", "onnxruntime": "onnx_peer.py", "openvino": "onnx_peer.py"}
MODES = {"torch": ("eager", "channels_last", "compiled"), "onnxruntime": ("onnx",), "openvino": ("onnx",)}
KINDS = {"torch": (TRAIN, INFER), "onnxruntime": (INFER,), "openvino": (INFER,)}


class PeerFault(Exception):
    """A peer could not do what it was asked for."""


def installed(peer: str) -> bool:
    """Whether a peer is there, without importing it."""
    return find_spec(peer) is not None


class Peer:
    """A peer on some threads.

    Args:
        name: of the package.
        threads: that it uses.
        given: what its script is told first: the model, the optimizer, the images' shape.
    """

    def __init__(self, name: str, threads: int, given: dict[str, Any]):
        self.name, self.threads = name, threads
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / SCRIPTS[name])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            text=True,
            bufsize=1,
        )
        self._process.stdin.write(json.dumps(given | {"peer": name, "threads": threads}) + "\n")

    def measure(self, case: Case, mode: str, seconds: float) -> float:
        """Images/s.

        Raises:
            PeerFault: it cannot do this.
        """
        question = {"kind": case.kind, "batch": case.batch, "mode": mode, "seconds": seconds}
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            answer = json.loads(self._process.stdout.readline())
        except (OSError, ValueError):
            raise PeerFault(f"{self.name}: its process ended with {self._process.wait()}") from None
        if "fault" in answer:
            raise PeerFault(f"{self.name}, {mode}: {answer['fault']}")
        return answer["images_per_s"]

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):
                pipe.close()
