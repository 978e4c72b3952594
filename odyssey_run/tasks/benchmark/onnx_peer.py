"""The side of ONNX Runtime and of OpenVINO in the benchmark, in processes of their own.

They are given the model as ``task=export format=onnx`` writes it, from uint8 pixels to logits; they do not train.
"""

import base64
from collections.abc import Callable
from typing import Any

import numpy as np

from odyssey_run.tasks.benchmark.peers import answer, rate

Run = Callable[[np.ndarray], object]


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


def serve(given: dict[str, Any]) -> None:
    """The process; it is given the model in base64, the name of the runtime, shapes and threads."""
    model, load = base64.b64decode(given["model"]), {"onnxruntime": onnxruntime, "openvino": openvino}[given["peer"]]
    runs: dict[int, Run] = {}

    def measure(question: dict[str, Any]) -> float:
        batch = question["batch"]
        pixels = np.random.default_rng(0).integers(0, 256, (batch, *given["input_shape"]), np.uint8)
        if batch not in runs:
            runs[batch] = load(model, pixels.shape, given["threads"])
        return rate(lambda: runs[batch](pixels), batch, question["seconds"])

    answer(measure)
