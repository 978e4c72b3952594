"""Many picture files decoded into one array, by as many processes as there are cores.

Pillow holds the interpreter's lock for most of the time that a small picture takes, so threads would not help. A worker
is an interpreter of its own that is told paths in a line of JSON and answers with faults in another, and the pixels.
This process decodes from the first moment on, so that a small folder never waits for a worker to start.
"""

from __future__ import annotations

import threading
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from odyssey_core import lazy_numpy as np
from odyssey_core.child_process import Child, Parent, encoded
from odyssey_core.data.pictures import Mode, read
from odyssey_core.errors import DataError
from odyssey_core.machine import usable_cores

HERE, THERE, LEAST = 32, 256, 8  # most pictures at once in this process and in a worker, and the fewest
AHEAD = 2  # stretches that a worker has been given and not answered
PIPE = 1 << 14  # bytes that a pipe surely takes without being read
WORTH_A_WORKER = 1000  # pictures: about as many as are decoded while one starts


class Faults(NamedTuple):
    """What is wrong with pictures, by their place in the list.

    Attributes:
        broken: those that could not be read, each with the reason.
        other_size: (H, W) of those that are no images of the size that was asked for.
    """

    broken: dict[int, str]
    other_size: dict[int, tuple[int, int]]


def decode(
    paths: Sequence[str], pixels: np.ndarray, mode: Mode | None, progress: Callable[[int], None] = lambda done: None
) -> Faults:
    """Fills an array with pictures, each upright and cut to the array's size.

    Args:
        paths: of the files.
        pixels: (len(paths), C, H, W) uint8, filled here; what stands for a picture with a fault is of no meaning.
        mode: how a picture of another size is cut, see `pictures.fitted`; None takes pictures of that size alone.
        progress: called with the number of pictures decoded since the last call, from several threads.
    """
    queue = _Queue(len(paths), progress)
    count = min(usable_cores() - 1, len(paths) // WORTH_A_WORKER)
    queue.parties = count + 1
    workers = [_Worker() for _ in range(count)]
    threads = [threading.Thread(target=w.work, args=(queue, paths, pixels, mode), daemon=True) for w in workers]
    try:
        for thread in threads:
            thread.start()
        while part := queue.take(HERE):
            queue.done(part, _chunk(paths[part], pixels[part], mode))
        for thread in threads:
            thread.join()
    finally:
        for worker in workers:
            worker.end()
    return queue.faults


class _Queue:
    """Stretches of a list that several threads take in turns, large ones first, and what came of them."""

    def __init__(self, length: int, progress: Callable[[int], None]):
        self.faults, self.parties = Faults({}, {}), 1
        self._length, self._next, self._progress, self._lock = length, 0, progress, threading.Lock()

    def take(self, most: int) -> slice | None:
        """The next stretch; towards the end they are short, so that nobody is waited for."""
        with self._lock:
            start = self._next
            size = max(LEAST, min(most, (self._length - start) // (4 * self.parties)))
            self._next = min(start + size, self._length)
        return slice(start, self._next) if start < self._length else None

    def done(self, part: slice, faults: Faults) -> None:
        """Notes the faults of a stretch, by their places in it."""
        self.faults.broken.update({part.start + i: fault for i, fault in faults.broken.items()})
        self.faults.other_size.update({part.start + i: size for i, size in faults.other_size.items()})
        self._progress(part.stop - part.start)


def _chunk(paths: Sequence[str], pixels: np.ndarray, mode: Mode | None) -> Faults:
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

    def __init__(self) -> None:
        self._child = Child("odyssey_core.data.decoding:serve")

    def work(self, queue: _Queue, paths: Sequence[str], pixels: np.ndarray, mode: Mode | None) -> None:
        """Has stretches decoded until none is left, the next already there when the worker has ended one.

        This thread shares an interpreter with one that decodes, and may wait for its turn longer than a stretch takes.
        """
        given: deque[slice] = deque()  # to the worker, but for the last where its job waits here
        job = b""
        try:
            while True:
                while job or len(given) < AHEAD:
                    if not job:
                        if not (part := queue.take(THERE)):
                            break
                        given.append(part)
                        job = encoded([list(paths[part]), pixels[part].shape, mode])
                    if len(given) > 1 and len(job) > PIPE:
                        break  # both sides would wait for the other to read
                    self._child.send(job)
                    job = b""
                if not given:
                    return
                part = given[0]
                if (answer := self._child.hear()) is None:
                    raise EOFError
                broken, other_size = answer
                if self._child.stdout.readinto(pixels[part].reshape(-1).data) != pixels[part].size:
                    raise EOFError
                given.popleft()
                sizes = {int(i): tuple(size) for i, size in other_size.items()}
                queue.done(part, Faults({int(i): text for i, text in broken.items()}, sizes))
        except (OSError, ValueError, EOFError):  # it died
            for part in given:
                queue.done(part, _chunk(paths[part], pixels[part], mode))

    def end(self) -> None:
        self._child.close()


def serve() -> None:
    """What a worker does: answers jobs until there are no more."""
    parent = Parent()
    for paths, shape, mode in parent:
        pixels = np.zeros(shape, np.uint8)
        parent.say(_chunk(paths, pixels, mode), pixels.data)
