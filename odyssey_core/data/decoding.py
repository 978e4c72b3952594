"""Many picture files decoded into one array, by as many processes as there are cores.

Pillow holds the interpreter's lock for most of the time that a small picture takes, so threads would not help. A worker
is an interpreter of its own that is told paths in a line of JSON and answers with faults in another, and the pixels.
This process decodes from the first moment on, so that a small folder never waits for a worker to start.
"""

import json
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from odyssey_core.data.pictures import Mode, read
from odyssey_core.errors import DataError
from odyssey_core.machine import usable_cores

CHUNK = 64  # pictures at once
WORTH_A_WORKER = 1000  # pictures: about as many as are decoded while one starts
START = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from odyssey_core.data.decoding import serve; serve()"


class Faults(NamedTuple):
    """What is wrong with pictures, by their place in the list.

    Attributes:
        broken: those that could not be read, each with the reason.
        other_size: (H, W) of those that are no images of the size that was asked for.
    """

    broken: dict[int, str]
    other_size: dict[int, tuple[int, int]]


def decode(
    paths: Sequence[Path], pixels: np.ndarray, mode: Mode | None, progress: Callable[[int], None] = lambda done: None
) -> Faults:
    """Fills an array with pictures, each upright and cut to the array's size.

    Args:
        paths: of the files.
        pixels: (len(paths), C, H, W) uint8, filled here; what stands for a picture with a fault is of no meaning.
        mode: how a picture of another size is cut, see `pictures.fitted`; None takes pictures of that size alone.
        progress: called with the number of pictures decoded since the last call, from several threads.
    """
    found, lock = Faults({}, {}), threading.Lock()
    chunks = iter(range(0, len(paths), CHUNK))

    def work(decoder: Callable[[Sequence[Path], np.ndarray, Mode | None], Faults]) -> None:
        while True:
            with lock:
                start = next(chunks, None)
            if start is None:
                return
            part = slice(start, min(start + CHUNK, len(paths)))
            faults = decoder(paths[part], pixels[part], mode)
            for mine, theirs in zip(found, faults, strict=True):
                mine.update({start + i: fault for i, fault in theirs.items()})
            progress(part.stop - start)

    count = min(usable_cores() - 1, len(paths) // WORTH_A_WORKER)
    workers = [_Worker() for _ in range(count)]
    threads = [threading.Thread(target=work, args=(worker.decode,), daemon=True) for worker in workers]
    try:
        for thread in threads:
            thread.start()
        work(_chunk)
        for thread in threads:
            thread.join()
    finally:
        for worker in workers:
            worker.end()
    return found


def _chunk(paths: Sequence[Path], pixels: np.ndarray, mode: Mode | None) -> Faults:
    faults = Faults({}, {})
    _, channels, *size = pixels.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's on odd metadata; what matters is whether there are pixels
        for i, path in enumerate(paths):
            try:
                image = read(path, channels, tuple(size) if mode else None, mode or "resize")
            except DataError as error:
                faults.broken[i] = str(error).removeprefix(f"{path}: ")
                continue
            if image.shape == pixels.shape[1:]:
                pixels[i] = image
            else:
                faults.other_size[i] = image.shape[1:]
    return faults


class _Worker:
    """A process that decodes; where it dies, what it was given is decoded here."""

    def __init__(self):
        command = [sys.executable, "-W", "ignore", "-c", START, json.dumps(sys.path)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(command, **pipes)

    def decode(self, paths: Sequence[Path], pixels: np.ndarray, mode: Mode | None) -> Faults:
        try:
            _send(self._process.stdin, [[str(path) for path in paths], pixels.shape, mode])
            broken, other_size = json.loads(self._process.stdout.readline())
            if self._process.stdout.readinto(pixels.reshape(-1).data) != pixels.size:
                raise EOFError
        except (OSError, ValueError, EOFError):
            return _chunk(paths, pixels, mode)
        return Faults({int(i): text for i, text in broken.items()}, {int(i): tuple(x) for i, x in other_size.items()})

    def end(self) -> None:
        self._process.kill()
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


def serve() -> None:
    """What a worker does: answers jobs on its standard input until that ends."""
    for paths, shape, mode in _received(sys.stdin.buffer):
        pixels = np.zeros(shape, np.uint8)
        _send(sys.stdout.buffer, _chunk([Path(path) for path in paths], pixels, mode), pixels.data)


def _send(stream: Any, message: Any, after: Any = b"") -> None:
    stream.write(json.dumps(message).encode() + b"\n")
    stream.write(after)
    stream.flush()


def _received(stream: Any) -> Iterator[Any]:
    for line in stream:
        yield json.loads(line)
