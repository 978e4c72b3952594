"""The other libraries: each in a process of its own for each number of threads, asked for one measurement at a time."""

from importlib.util import find_spec
from typing import Any

from odyssey_core.child_process import Child
from odyssey_run.tasks.benchmark.ours import INFER, TRAIN, Case

MODULES = {"torch": "torch_peer", "onnxruntime": "onnx_peer", "openvino": "onnx_peer"}
MODES = {"torch": ("eager", "channels_last", "compiled"), "onnxruntime": ("onnx",), "openvino": ("onnx",)}
KINDS = {"torch": (TRAIN, INFER), "onnxruntime": (INFER,), "openvino": (INFER,)}


class PeerFault(Exception): ...


def installed(peer: str) -> bool:
    """Whether a peer is there, without importing it."""
    return find_spec(peer) is not None


class Peer:
    """A peer on some threads; its process is told first of the model, the optimizer, and the shape of images."""

    def __init__(self, name: str, threads: int, given: dict[str, Any]):
        self.name, self.threads = name, threads
        told = given | {"peer": name, "threads": threads}
        variables = {"OMP_NUM_THREADS": str(threads)}
        self._child = Child(f"odyssey_run.tasks.benchmark.{MODULES[name]}:serve", told, environment=variables)
        self.close = self._child.close

    def measure(self, case: Case, mode: str, seconds: float) -> float:
        """Images/s. Raises PeerFault where it cannot do this."""
        question = {"kind": case.kind, "batch": case.batch, "mode": mode, "seconds": seconds}
        self._child.say(question)
        if (answer := self._child.hear()) is None:
            raise PeerFault(f"{self.name}: its process {self._child.ending()}")
        if "fault" in answer:
            raise PeerFault(f"{self.name}, {mode}: {answer['fault']}")
        return float(answer["images_per_s"])
