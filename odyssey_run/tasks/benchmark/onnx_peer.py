"""The side of ONNX Runtime and of OpenVINO in the benchmark. Run as a process of its own, as `torch_peer` is.

They are given the model as ``task=export format=onnx`` writes it, from uint8 pixels to logits; they do not train.
"""

import base64
import json
import os
import sys
import time

import numpy as np


def onnxruntime(model, shape, threads):
    """What runs the model on pixels of a shape."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(None, {"pixels": pixels})


def openvino(model, shape, threads):
    """Likewise; compiled for this very shape, which is faster than for any."""
    import openvino

    core = openvino.Core()
    network = core.read_model(model)
    network.reshape(list(shape))
    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(network, "CPU", settings).create_infer_request()
    return lambda pixels: request.infer({"pixels": pixels}, share_inputs=True)


def measure(run, pixels, seconds):
    """Images/s over about so many seconds."""
    run(pixels)
    steps, begun = 0, time.perf_counter()
    while (now := time.perf_counter() - begun) < seconds:
        run(pixels)
        steps += 1
    return steps * len(pixels) / now if steps else 0.0


def main():
    given = json.loads(sys.stdin.readline())
    model, load = base64.b64decode(given["model"]), {"onnxruntime": onnxruntime, "openvino": openvino}[given["peer"]]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    runs = {}
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            pixels = np.random.default_rng(0).integers(0, 256, (asked["batch"], *given["input_shape"]), np.uint8)
            if asked["batch"] not in runs:
                runs[asked["batch"]] = load(model, pixels.shape, given["threads"])
            answer = {"images_per_s": measure(runs[asked["batch"]], pixels, asked["seconds"])}
        except Exception as error:  # such as an operation that the runtime does not know
            answer = {"fault": (str(error).strip().splitlines() or [type(error).__name__])[0][:200]}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
