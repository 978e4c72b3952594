"""The other libraries: each in a process of its own for each number of threads, asked for one measurement at a time.

`Peer` asks, and `answer` is what its process does.
"""

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from odyssey_core.child_process import Child, Parent

TRAIN, INFER = "training", "inference"
SERVERS = {"torch": "torch_peer:serve", "onnxruntime": "peers:serve_onnx", "openvino": "peers:serve_onnx"}
MODES = {"torch": ("eager", "channels_last", "compiled"), "onnxruntime": ("onnx",), "openvino": ("onnx",)}
KINDS = {"torch": (TRAIN, INFER), "onnxruntime": (INFER,), "openvino": (INFER,)}
Run = Callable[[np.ndarray], object]


@dataclass(frozen=True)
class Case:
    """What is measured: ``kind`` is training or inference."""

    kind: str
    batch: int
    threads: int


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
        self._child = Child(f"odyssey_run.tasks.benchmark.{SERVERS[name]}", told, environment=variables)
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


def answer(measure: Callable[[dict[str, Any]], float]) -> None:
    """Answers with images/s to questions with kind, batch, mode and seconds, until nothing more is asked."""
    parent = Parent()
    for question in parent:
        try:
            parent.say({"images_per_s": measure(question)})
        except Exception as error:  # such as no compiler for torch.compile, or an unknown operation
            parent.say({"fault": (str(error).strip().splitlines() or [type(error).__name__])[0][:200]})


def rate(step: Callable[[], object], images: int, seconds: float) -> float:
    """Images/s of steps of so many images, over about so many seconds, after one that may compile."""
    step()
    steps, begun = 0, time.perf_counter()
    while (now := time.perf_counter() - begun) < seconds:
        step()
        steps += 1
    return steps * images / now if steps else 0.0


def onnxruntime(model: bytes, shape: tuple[int, ...], threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(None, {"pixels": pixels})


def openvino(model: bytes, shape: tuple[int, ...], threads: int) -> Run:
    """Likewise; compiled for this very shape, which is faster than for any, and to compute in float32 as the others.

    By itself OpenVINO computes in bfloat16 where the CPU has units for that.
    """
    import openvino

    core = openvino.Core()
    network = core.read_model(model)
    network.reshape(list(shape))
    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    settings["INFERENCE_PRECISION_HINT"] = "f32"
    request = core.compile_model(network, "CPU", settings).create_infer_request()
    return lambda pixels: request.infer({"pixels": pixels}, share_inputs=True)


def serve_onnx(given: dict[str, Any]) -> None:
    """The process of ONNX Runtime or of OpenVINO, which do not train. It is given the model in base64 as ``task=export
    format=onnx`` writes it, from uint8 pixels to logits, the name of the runtime, shapes and threads."""
    model, load = base64.b64decode(given["model"]), {"onnxruntime": onnxruntime, "openvino": openvino}[given["peer"]]
    runs: dict[int, Run] = {}

    def measure(question: dict[str, Any]) -> float:
        batch = question["batch"]
        pixels = np.random.default_rng(0).integers(0, 256, (batch, *given["input_shape"]), np.uint8)
        if batch not in runs:
            runs[batch] = load(model, pixels.shape, given["threads"])
        return rate(lambda: runs[batch](pixels), batch, question["seconds"])

    answer(measure)
