"""PyTorch's side of the benchmark. Run as a process of its own, one for each number of threads; never imported.

Reads a line of JSON that says what the model is, then a line for each measurement, and answers each with a line.
A step works on one batch that lies there as float32, already normalised: nothing is gathered, unlike in ours.
"""

import json
import os
import sys
import time

import torch
from torch import nn


def build(layers):
    """The layers as torch's modules."""
    found = []
    for name, sizes in layers:
        weight = sizes.get("weight", [])
        if name == "conv2d":
            out, into, *kernel = weight
            found.append(nn.Conv2d(into, out, kernel, sizes["stride"], sizes["padding"], bias=sizes["bias"]))
        elif name == "linear":
            found.append(nn.Linear(weight[1], weight[0], bias=sizes["bias"]))
        elif name in ("max_pool2d", "avg_pool2d"):
            kind = nn.MaxPool2d if name == "max_pool2d" else nn.AvgPool2d
            found.append(kind(sizes["kernel_size"], sizes["stride"]))
        elif name == "reshape":
            found.append(nn.Flatten())
        else:
            found.append({"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}[name]())
    return nn.Sequential(*found)


class Model:
    """The model in one of torch's modes: eager, channels_last or compiled."""

    def __init__(self, given, mode):
        self.format = torch.channels_last if mode == "channels_last" else torch.contiguous_format
        self.shape, self.classes = given["input_shape"], given["classes"]
        model = build(given["layers"]).to(memory_format=self.format)
        optimizer = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[given["optim"]]
        self.optimizer = optimizer(model.parameters(), **given["optim_arguments"])
        # Each batch size compiled by itself infers a fifth faster than one compilation for all of them.
        self.model = torch.compile(model, dynamic=False) if mode == "compiled" else model

    def images(self, batch):
        return torch.rand(batch, *self.shape).to(memory_format=self.format)

    def train(self, images, labels):
        self.optimizer.zero_grad()
        nn.functional.cross_entropy(self.model(images), labels).backward()
        self.optimizer.step()

    def measure(self, kind, batch, seconds):
        """Images/s over about so many seconds."""
        images, labels = self.images(batch), torch.randint(self.classes, (batch,))
        with torch.inference_mode(kind == "inference"):
            step = (lambda: self.train(images, labels)) if kind == "training" else (lambda: self.model(images))
            step()
            steps, begun = 0, time.perf_counter()
            while (now := time.perf_counter() - begun) < seconds:
                step()
                steps += 1
        return steps * batch / now


def main():
    given = json.loads(sys.stdin.readline())
    torch.set_num_threads(given["threads"])
    torch.manual_seed(0)
    torch._dynamo.config.cache_size_limit = 64  # batch sizes compiled, beyond which it would run eagerly
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what compilers print is no answer
    models = {}
    for line in sys.stdin:
        asked = json.loads(line)
        mode = asked.pop("mode")
        try:
            if mode not in models:
                models[mode] = Model(given, mode)
            answer = {"images_per_s": models[mode].measure(**asked)}
        except Exception as error:  # such as no compiler for torch.compile
            answer = {"fault": (str(error).strip().splitlines() or [type(error).__name__])[0][:200]}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
